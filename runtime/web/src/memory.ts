import { GossamerError } from "./errors.js";
import { MEMORY_LIMIT, type CodeFile, type Manifest } from "./manifest.js";

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

// Vector kernels may read, never use, a little past the end of a tensor.
const SLACK = 256;
const STACK = 65536;

const PAGE = 65536;
const MOST_PAGES = MEMORY_LIMIT / PAGE;

/** Gives out addresses one after another. */
class Places64 {
  constructor(public next: number) {}
  place(bytes: number): number {
    const address = Math.ceil(this.next / 64) * 64;
    this.next = address + bytes + SLACK;
    return address;
  }
}

/** Place weights and what threads need after the code's own data. */
export function layout(manifest: Manifest, code: CodeFile, threads: number): Layout {
  const rest = new Places64(code.heapBase);
  const weights = rest.place(manifest.weights.file === null ? 0 : manifest.weights.bytes);
  const control = rest.place(64 + 4 * (manifest.inputs.length + manifest.outputs.length + 2));
  const stacks = Array.from({ length: threads - 1 }, () => rest.place(STACK) + STACK);
  const table = rest.place(8 * (manifest.table?.count ?? 0));
  return { weights, control, stacks, table, free: rest.next };
}

/** Place inputs, outputs and arena of these bytes behind `free`. */
export function placeRun(free: number, inputs: readonly number[], outputs: readonly number[], arena: number): Places {
  const rest = new Places64(free);
  const places = {
    inputs: inputs.map((bytes) => rest.place(bytes)),
    outputs: outputs.map((bytes) => rest.place(bytes)),
    arena: rest.place(arena),
  };
  return { ...places, end: rest.next };
}

/** Refuse what no memory holds. */
export function checkEnd(end: number, code: "manifest" | "feed"): void {
  if (end <= MEMORY_LIMIT) return;
  const where = code === "manifest" ? "manifest.json" : "inputs";
  throw new GossamerError(code, where, "needs too much memory", `at most ${MEMORY_LIMIT} bytes`, end);
}

/** Reserve `bytes` of memory for one session, which may grow if that is `open`; `shared` with workers or not. */
export function reserve(bytes: number, code: CodeFile, shared: boolean, open: boolean): WebAssembly.Memory {
  const initial = Math.max(code.initialPages, Math.ceil(bytes / PAGE));
  // Engines set the address space of a shared memory's maximum aside; where they have less, less will do.
  for (let maximum = open ? MOST_PAGES : initial; ; maximum = Math.max(initial, maximum >> 1)) {
    try {
      return new WebAssembly.Memory({ initial, maximum, shared });
    } catch (error) {
      if (maximum > initial) continue;
      throw new GossamerError("engine", "memory", `cannot reserve ${initial * PAGE} bytes`, undefined, error);
    }
  }
}

/** Let `memory` reach to `end` at least. */
export function grow(memory: WebAssembly.Memory, end: number): void {
  const more = Math.ceil((end - memory.buffer.byteLength) / PAGE);
  if (more <= 0) return;
  try {
    memory.grow(more);
  } catch (error) {
    throw new GossamerError("engine", "memory", `cannot grow to ${end} bytes`, undefined, error);
  }
}

/** The bytes at `address` as an ArrayBuffer of their own, also from shared memory. */
export function copied(memory: WebAssembly.Memory, address: number, bytes: number): ArrayBuffer {
  return new Uint8Array(memory.buffer, address, bytes).slice().buffer;
}
