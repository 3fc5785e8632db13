import { type CodeFile, type Manifest } from "./manifest.js";
/** Addresses of everything a run touches, in bytes; each is a multiple of 64. */
export interface Layout {
    readonly weights: number;
    readonly inputs: readonly number[];
    readonly outputs: readonly number[];
    readonly arena: number;
    readonly pages: number;
}
/** Place weights, inputs, outputs and arena after the code's own data. */
export declare function layout(manifest: Manifest, code: CodeFile): Layout;
/** Reserve the memory of one session. */
export declare function reserve(pages: number): WebAssembly.Memory;
