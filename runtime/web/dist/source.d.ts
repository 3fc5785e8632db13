/** The files of an artifact by name, in memory. */
export type Files = Readonly<Record<string, Uint8Array | ArrayBuffer>> | ReadonlyMap<string, Uint8Array | ArrayBuffer>;
/** Where the files of an artifact come from. */
export interface Source {
    /** False when a file is known to be missing. */
    has(name: string): boolean;
    /** The bytes of a file, in order. */
    read(name: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
}
/** A folder (or its manifest.json) by URL or, in Node, by path; or the files themselves. */
export declare function openSource(from: string | URL | Files): Source;
interface NodeWorker {
    postMessage(message: unknown): void;
    on(event: "message" | "error", hear: (what: unknown) => void): void;
    ref(): void;
    unref(): void;
    terminate(): Promise<number>;
}
interface NodeModules {
    "node:fs": {
        createReadStream(url: URL, options: object): AsyncIterable<Uint8Array>;
    };
    "node:url": {
        pathToFileURL(path: string): URL;
    };
    "node:worker_threads": {
        Worker: new (program: string, options: {
            eval: true;
        }) => NodeWorker;
    };
}
/** A module of Node's own, without an import that bundlers for browsers would follow; undefined in browsers. */
export declare function node<K extends keyof NodeModules>(name: K): NodeModules[K] | undefined;
/**
 * Pass the bytes of a file to `take` with their offset; at most `limit` of them.
 * Whatever fails on the way becomes a GossamerError with code "artifact". Returns the number of bytes.
 */
export declare function readParts(source: Source, name: string, limit: number, signal: AbortSignal, take: (part: Uint8Array, offset: number) => void): Promise<number>;
/** A whole file of at most `limit` bytes. */
export declare function readAll(source: Source, name: string, limit: number, signal: AbortSignal, progress?: (bytes: number) => void): Promise<Uint8Array<ArrayBuffer>>;
export {};
