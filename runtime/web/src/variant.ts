import { GossamerError } from "./errors.js";
import type { CodeFile, Manifest } from "./manifest.js";
import type { Source } from "./source.js";

/** Which build of the code runs: `relaxed` needs relaxed SIMD (fused multiply-add), `simd` the 128-bit baseline. */
export type Variant = "relaxed" | "simd";

/** A module of one function, `f32x4.relaxed_madd` of three splats: valid only where the engine has relaxed SIMD. */
const PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0,
  65, 1, 253, 15, 65, 1, 253, 15, 65, 1, 253, 15, 253, 133, 2, 11,
]);

/** Whether this engine has relaxed SIMD. */
export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(PROBE);
}

/** The code file to run: the one asked for, else the fastest that this engine takes. */
export function chooseCode(manifest: Manifest, source: Source, variant: unknown): CodeFile {
  if (variant !== undefined && variant !== "relaxed" && variant !== "simd") {
    throw new GossamerError("engine", "variant", "unknown", '"relaxed" or "simd"', variant);
  }
  const find = (relaxed: boolean): CodeFile | undefined => manifest.code.find((code) => code.relaxed === relaxed);
  if (variant !== undefined) return forced(find(variant === "relaxed"), variant);
  const able = [hasRelaxedSimd() ? find(true) : undefined, find(false)].filter((code) => code !== undefined);
  const code = able.find((each) => source.has(each.file)) ?? able[0];
  return code ?? forced(find(true), "relaxed");
}

function forced(code: CodeFile | undefined, variant: Variant): CodeFile {
  if (code === undefined) {
    throw new GossamerError("artifact", "manifest.json: code", `no ${variant} variant here`);
  }
  if (variant === "relaxed" && !hasRelaxedSimd()) {
    const advice = "Node 20 needs --experimental-wasm-relaxed-simd";
    throw new GossamerError("engine", code.file, `this engine has no relaxed SIMD; ${advice}`);
  }
  return code;
}
