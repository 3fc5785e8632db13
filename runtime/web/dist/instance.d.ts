import type { CodeFile, Manifest } from "./manifest.js";
/** The model as a function of addresses; 0 is success. */
export type Entry = (...parameters: number[]) => number;
/** Instantiate the code over `memory`; it may import that, and `sync` which it calls after every kernel, nothing else. */
export declare function instantiate(module: WebAssembly.Module, code: CodeFile, memory: WebAssembly.Memory, sync: () => void): Promise<WebAssembly.Exports>;
/** The exported entry function, taking every tensor and five parameters more. */
export declare function findEntry(exports: WebAssembly.Exports, manifest: Manifest, code: CodeFile): Entry;
/** The exported function that fills in a table of sizes at an address; null where the model has none. */
export declare function findSizes(exports: WebAssembly.Exports, manifest: Manifest, code: CodeFile): Entry | null;
/** The address of weights that are part of the code. */
export declare function embeddedWeights(exports: WebAssembly.Exports, manifest: Manifest, code: CodeFile): number;
