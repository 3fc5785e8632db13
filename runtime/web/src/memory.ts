import { GossamerError } from "./errors.js";
import { MEMORY_LIMIT, type CodeFile, type Manifest } from "./manifest.js";

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

// Vector kernels may read, never use, a little past the end of a tensor.
const SLACK = 256;
const STACK = 65536;

/** Place weights, inputs, outputs, arena and what threads need after the code's own data. */
export function layout(manifest: Manifest, code: CodeFile, threads: number): Layout {
  let next = code.heapBase;
  const place = (bytes: number): number => {
    const address = Math.ceil(next / 64) * 64;
    next = address + bytes + SLACK;
    return address;
  };
  const weights = place(manifest.weights.file === null ? 0 : manifest.weights.bytes);
  const inputs = manifest.inputs.map((spec) => place(spec.bytes));
  const outputs = manifest.outputs.map((spec) => place(spec.bytes));
  const arena = place(manifest.arenaBytes + (threads - 1) * manifest.scratchBytes);
  const control = place(64);
  const stacks = Array.from({ length: threads - 1 }, () => place(STACK) + STACK);
  if (next > MEMORY_LIMIT) {
    throw new GossamerError("manifest", "manifest.json", "needs too much memory", `at most ${MEMORY_LIMIT} bytes`, next);
  }
  const pages = Math.max(code.initialPages, Math.ceil(next / 65536));
  return { weights, inputs, outputs, arena, control, stacks, pages };
}

/** Reserve the memory of one session; `shared` with the workers that compute in it. */
export function reserve(pages: number, shared: boolean): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
  } catch (error) {
    throw new GossamerError("engine", "memory", `cannot reserve ${pages * 65536} bytes`, undefined, error);
  }
}

/** The bytes at `address` as an ArrayBuffer of their own, also from shared memory. */
export function copied(memory: WebAssembly.Memory, address: number, bytes: number): ArrayBuffer {
  return new Uint8Array(memory.buffer, address, bytes).slice().buffer;
}
