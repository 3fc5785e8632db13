import { type CodeFile, type Manifest } from "./manifest.js";
/** Addresses of everything a run touches, in bytes; each is a multiple of 64. */
export interface Layout {
    readonly weights: number;
    readonly inputs: readonly number[];
    readonly outputs: readonly number[];
    readonly arena: number;
    /** Where threads meet: the words of crew.ts. */
    readonly control: number;
    /** The end of the stack of each thread after the first; they grow down. */
    readonly stacks: readonly number[];
    readonly pages: number;
}
/** Place weights, inputs, outputs, arena and what threads need after the code's own data. */
export declare function layout(manifest: Manifest, code: CodeFile, threads: number): Layout;
/** Reserve the memory of one session; `shared` with the workers that compute in it. */
export declare function reserve(pages: number, shared: boolean): WebAssembly.Memory;
/** The bytes at `address` as an ArrayBuffer of their own, also from shared memory. */
export declare function copied(memory: WebAssembly.Memory, address: number, bytes: number): ArrayBuffer;
