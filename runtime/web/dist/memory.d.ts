import { type CodeFile, type Manifest } from "./manifest.js";
/** Addresses of what one run reads and writes, in bytes; each is a multiple of 64. */
export interface Places {
    readonly inputs: readonly number[];
    readonly outputs: readonly number[];
    readonly arena: number;
    /** Where all of it ends. */
    readonly end: number;
}
/** Addresses of what a session holds. */
export interface Layout {
    readonly weights: number;
    /** Where threads meet: the words of worker.ts, then the parameters of the entry. */
    readonly control: number;
    /** The end of the stack of each thread after the first; they grow down. */
    readonly stacks: readonly number[];
    /** Where the code fills in the table of sizes. */
    readonly table: number;
    /** Everything behind this is laid out for each run. */
    readonly free: number;
}
/** Place weights and what threads need after the code's own data. */
export declare function layout(manifest: Manifest, code: CodeFile, threads: number): Layout;
/** Place inputs, outputs and arena of these bytes behind `free`. */
export declare function placeRun(free: number, inputs: readonly number[], outputs: readonly number[], arena: number): Places;
/** Refuse what no memory holds. */
export declare function checkEnd(end: number, code: "manifest" | "feed"): void;
/** Reserve `bytes` of memory for one session, which may grow if that is `open`; `shared` with workers or not. */
export declare function reserve(bytes: number, code: CodeFile, shared: boolean, open: boolean): WebAssembly.Memory;
/** Let `memory` reach to `end` at least. */
export declare function grow(memory: WebAssembly.Memory, end: number): void;
/** The bytes at `address` as an ArrayBuffer of their own, also from shared memory. */
export declare function copied(memory: WebAssembly.Memory, address: number, bytes: number): ArrayBuffer;
