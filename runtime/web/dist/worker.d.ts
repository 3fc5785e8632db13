/** What a worker is told once. */
export interface Orders {
    readonly module: WebAssembly.Module;
    readonly memory: WebAssembly.Memory;
    readonly entry: string;
    /** How many parameters of the entry, up to the arena, stand behind the words below. */
    readonly parameters: number;
    readonly thread: number;
    readonly threads: number;
    /** The address of the words below. */
    readonly control: number;
    /** Where its stack ends; undefined for the first thread, which has the module's own. */
    readonly stack: number | undefined;
}
/** What a worker tells: that it is ready, that a round is done, or what went wrong. */
export type News = "ready" | "done" | {
    readonly error: string;
    readonly status: number | undefined;
};
/** Words that all threads look at, by index: a change of `round` starts one. */
export declare const WORDS: {
    readonly round: 0;
    readonly busy: 1;
    readonly arrived: 2;
    readonly phase: 3;
    readonly failed: 4;
};
/**
 * The whole program of a worker. It is turned into text and started from that, so it refers to nothing outside it.
 *
 * After its orders it never returns to its event loop: it waits for a round, computes its share, and waits again.
 */
export declare function work(words: typeof WORDS): void;
