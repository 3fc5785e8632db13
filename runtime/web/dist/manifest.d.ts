import { type Table } from "./sizes.js";
import { type DataType } from "./tensor.js";
/** The most memory one instance may have: 4 GiB without the last page, in bytes. */
export declare const MEMORY_LIMIT: number;
/** The most threads of one run. */
export declare const MOST_THREADS = 16;
/**
 * An input or output: `dims` counts elements, `bytes` is the size of its data. A size that a run brings is a formula in
 * `dims` and a place of the table in `slots`, which is -1 for numbers; then `bytes` is 0.
 */
export interface TensorSpec {
    readonly name: string;
    readonly type: DataType;
    readonly dims: readonly (number | string)[];
    readonly slots: readonly number[];
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
    /** Of a model with sizes that a run brings. */
    readonly table: Table | null;
}
export type Json = Record<string, unknown>;
/** Refuse a field in the words of the other runtimes. */
export declare function fail(where: string, expected: string | number, got: unknown, what?: string): never;
export declare function object(value: unknown, where: string): Json;
export declare function list(value: unknown, where: string, limit: number): unknown[];
export declare function whole(json: Json, key: string, where: string, low?: number, high?: number): number;
export declare function text(json: Json, key: string, where: string, pattern: RegExp, meaning: string): string;
/** Check manifest.json as hostile input; anything unexpected is a GossamerError with code "manifest". */
export declare function readManifest(bytes: Uint8Array): Manifest;
