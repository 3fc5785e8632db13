import { type Feeds } from "./feeds.js";
import { type Files } from "./source.js";
import { Tensor, type DataType } from "./tensor.js";
import { type Variant } from "./variant.js";
/** How to open an artifact. */
export interface SessionOptions {
    /** Run this build of the code instead of the fastest that the engine takes. */
    readonly variant?: Variant;
    /**
     * Threads of one run; without it, as many as the artifact says. More than one need a page that is cross-origin isolated
     * (or Node): elsewhere it is one. `session.threads` tells.
     */
    readonly threads?: number;
    /** Told of bytes of code and weights as they arrive. */
    readonly onProgress?: (received: number, total: number) => void;
    /** Called before the first and after every kernel of a run, for profiles; the run then has one thread. */
    readonly onKernel?: () => void;
}
/** Name, element type and shape of an input or output; a size that each run may choose is a name or a formula. */
export interface ValueMetadata {
    readonly name: string;
    readonly isTensor: true;
    readonly type: DataType;
    readonly shape: readonly (number | string)[];
}
/** A compiled model, loaded and ready to run. */
export declare class InferenceSession {
    #private;
    /** The model's name. */
    readonly name: string;
    readonly inputNames: readonly string[];
    readonly outputNames: readonly string[];
    readonly inputMetadata: readonly ValueMetadata[];
    readonly outputMetadata: readonly ValueMetadata[];
    /** The build of the code that runs. */
    readonly variant: Variant;
    /** Whether code and weights were checked against the manifest's SHA-256; false outside secure contexts. */
    readonly verified: boolean;
    /** Bytes read: manifest, code and weights. */
    readonly downloadBytes: number;
    /** Threads of one run. */
    readonly threads: number;
    private constructor();
    /** Bytes of memory reserved for this session, which runs of larger sizes may make more; 0 when it was released. */
    get memoryBytes(): number;
    /**
     * Open an artifact that was compiled for `wasm`.
     *
     * `from` is the URL of its folder or manifest.json (in Node also a path), or a map of its files: name to bytes.
     */
    static create(from: string | URL | Files, options?: SessionOptions): Promise<InferenceSession>;
    /**
     * Run the model; `feeds` has a Tensor for each input. Returns every output, or those named in `fetches`, as copies.
     *
     * Runs of a session happen one after another. With one thread the work happens before this returns its promise: use a
     * worker to keep a page responsive. With several the work happens in workers; feeds are read before this returns.
     */
    run(feeds: Feeds, fetches?: readonly string[]): Promise<Record<string, Tensor>>;
    /** Let go of the model's memory and workers, after the runs under way; further runs are refused. */
    release(): Promise<void>;
}
