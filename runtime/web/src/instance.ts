import { GossamerError } from "./errors.js";
import type { CodeFile, Manifest } from "./manifest.js";

/** The model as a function of addresses; 0 is success. */
export type Entry = (...parameters: number[]) => number;

function refuse(file: string, what: string, expected: string | number, got: unknown): never {
  throw new GossamerError("artifact", file, what, expected, got);
}

/** Instantiate the code over `memory`; it may import that, and `sync` which it calls after every kernel, nothing else. */
export async function instantiate(
  module: WebAssembly.Module,
  code: CodeFile,
  memory: WebAssembly.Memory,
  sync: () => void,
): Promise<WebAssembly.Exports> {
  const imports = WebAssembly.Module.imports(module).map((each) => `${each.module}.${each.name}`);
  if (!/^env\.memory(,env\.sync)?$/.test(imports.sort().join())) {
    refuse(code.file, "wrong imports", "env.memory and env.sync only", imports);
  }
  let exports: WebAssembly.Exports;
  try {
    exports = (await WebAssembly.instantiate(module, { env: { memory, sync } })).exports;
  } catch (error) {
    throw new GossamerError("artifact", code.file, "cannot be instantiated", undefined, error);
  }
  const base = exports["__heap_base"];
  if (base instanceof WebAssembly.Global && base.value > code.heapBase) {
    refuse(code.file, "the manifest's heap_base lies inside the code's own data", base.value, code.heapBase);
  }
  return exports;
}

/** The exported entry function, taking every tensor and five parameters more. */
export function findEntry(exports: WebAssembly.Exports, manifest: Manifest, code: CodeFile): Entry {
  const entry = exports[manifest.entry];
  const count = manifest.inputs.length + manifest.outputs.length + 5;
  if (typeof entry !== "function") refuse(code.file, "no such function", manifest.entry, Object.keys(exports));
  if (entry.length !== count) refuse(code.file, `${manifest.entry}: wrong number of parameters`, count, entry.length);
  return entry as Entry;
}

/** The exported function that fills in a table of sizes at an address; null where the model has none. */
export function findSizes(exports: WebAssembly.Exports, manifest: Manifest, code: CodeFile): Entry | null {
  if (manifest.table === null) return null;
  const sizes = exports[manifest.table.name];
  if (typeof sizes !== "function") refuse(code.file, "no such function", manifest.table.name, Object.keys(exports));
  if (sizes.length !== 1) refuse(code.file, `${manifest.table.name}: wrong number of parameters`, 1, sizes.length);
  return sizes as Entry;
}

/** The address of weights that are part of the code. */
export function embeddedWeights(exports: WebAssembly.Exports, manifest: Manifest, code: CodeFile): number {
  const address: unknown = (exports["gossamer_weights"] as WebAssembly.Global | undefined)?.value;
  const end = code.heapBase - manifest.weights.bytes;
  if (typeof address === "number" && address >= 0 && address % 64 === 0 && address <= end) return address;
  refuse(code.file, "gossamer_weights: wrong address", `a multiple of 64 up to ${end}`, address);
}
