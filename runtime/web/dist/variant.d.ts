import type { CodeFile, Manifest } from "./manifest.js";
import type { Source } from "./source.js";
/** Which build of the code runs: `relaxed` needs relaxed SIMD (fused multiply-add), `simd` the 128-bit baseline. */
export type Variant = "relaxed" | "simd";
/** Whether this engine has relaxed SIMD. */
export declare function hasRelaxedSimd(): boolean;
/** The code file to run: the one asked for, else the fastest that this engine takes. */
export declare function chooseCode(manifest: Manifest, source: Source, variant: unknown): CodeFile;
