import { GossamerError } from "./errors.js";
import { MEMORY_LIMIT, type CodeFile, type Manifest } from "./manifest.js";

/** Addresses of everything a run touches, in bytes; each is a multiple of 64. */
export interface Layout {
  readonly weights: number;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  readonly arena: number;
  readonly pages: number;
}

// Vector kernels may read, never use, a little past the end of a tensor.
const SLACK = 256;

/** Place weights, inputs, outputs and arena after the code's own data. */
export function layout(manifest: Manifest, code: CodeFile): Layout {
  let next = code.heapBase;
  const place = (bytes: number): number => {
    const address = Math.ceil(next / 64) * 64;
    next = address + bytes + SLACK;
    return address;
  };
  const weights = place(manifest.weights.file === null ? 0 : manifest.weights.bytes);
  const inputs = manifest.inputs.map((spec) => place(spec.bytes));
  const outputs = manifest.outputs.map((spec) => place(spec.bytes));
  const arena = place(manifest.arenaBytes);
  if (next > MEMORY_LIMIT) {
    throw new GossamerError("manifest", "manifest.json", "needs too much memory", `at most ${MEMORY_LIMIT} bytes`, next);
  }
  return { weights, inputs, outputs, arena, pages: Math.max(code.initialPages, Math.ceil(next / 65536)) };
}

/** Reserve the memory of one session. */
export function reserve(pages: number): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: pages });
  } catch (error) {
    throw new GossamerError("engine", "memory", `cannot reserve ${pages * 65536} bytes`, undefined, error);
  }
}
