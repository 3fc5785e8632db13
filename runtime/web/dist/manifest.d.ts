import { type DataType } from "./tensor.js";
/** The most memory one instance may have: 4 GiB without the last page, in bytes. */
export declare const MEMORY_LIMIT: number;
/** The most threads of one run. */
export declare const MOST_THREADS = 16;
/** An input or output: `dims` counts elements, `bytes` is the size of its data. */
export interface TensorSpec {
    readonly name: string;
    readonly type: DataType;
    readonly dims: readonly number[];
    readonly bytes: number;
}
/** One code file; `heapBase` is the first address after its own data and stack. */
export interface CodeFile {
    readonly file: string;
    readonly relaxed: boolean;
    readonly heapBase: number;
    readonly initialPages: number;
    readonly bytes: number;
    readonly sha256: string;
}
/** What a checked manifest.json says that this runtime needs. */
export interface Manifest {
    readonly name: string;
    readonly entry: string;
    readonly inputs: readonly TensorSpec[];
    readonly outputs: readonly TensorSpec[];
    readonly threads: number;
    readonly arenaBytes: number;
    readonly scratchBytes: number;
    readonly weights: {
        readonly file: string | null;
        readonly bytes: number;
        readonly sha256: string;
    };
    readonly code: readonly CodeFile[];
}
/** Check manifest.json as hostile input; anything unexpected is a GossamerError with code "manifest". */
export declare function readManifest(bytes: Uint8Array): Manifest;
