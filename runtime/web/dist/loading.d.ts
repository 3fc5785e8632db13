import type { CodeFile, Manifest } from "./manifest.js";
import { type Source } from "./source.js";
/** Bytes read so far are reported here. */
export type Progress = (bytes: number) => void;
/** Stream the weights straight to their place in `memory`; returns whether their hash was checked. */
export declare function loadWeights(source: Source, weights: Manifest["weights"], memory: WebAssembly.Memory, address: number, signal: AbortSignal, progress: Progress): Promise<boolean>;
/** Read, check and compile the code, for a shared memory if `shared`; returns it and whether its hash was checked. */
export declare function loadCode(source: Source, code: CodeFile, shared: boolean, signal: AbortSignal, progress: Progress): Promise<[WebAssembly.Module, boolean]>;
