import type { CodeFile, Manifest } from "./manifest.js";
/** The model as a function of addresses; 0 is success. */
export type Entry = (...parameters: number[]) => number;
/** Instantiate the code over `memory`; it may import that, and `sync` which it calls after every kernel, nothing else. */
export declare function instantiate(module: WebAssembly.Module, code: CodeFile, memory: WebAssembly.Memory, sync: () => void): Promise<WebAssembly.Exports>;
/** The exported entry function, taking every tensor and five parameters more. */
export declare function findEntry(exports: WebAssembly.Exports, manifest: Manifest, code: CodeFile): Entry;
/** The address of weights that are part of the code. */
export declare function embeddedWeights(exports: WebAssembly.Exports, manifest: Manifest, code: CodeFile): number;
