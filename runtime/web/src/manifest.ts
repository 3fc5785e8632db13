import { GossamerError } from "./errors.js";
import { checkTable, readSlots, readTable, type Table } from "./sizes.js";
import { bytesPerElement, isDataType, sizeOf, TYPE_NAMES, type DataType } from "./tensor.js";

/** The most memory one instance may have: 4 GiB without the last page, in bytes. */
export const MEMORY_LIMIT: number = 2 ** 32 - 2 ** 16;

/** The most threads of one run. */
export const MOST_THREADS = 16;

/**
 * An input or output: `dims` counts elements, `bytes` is the size of its data. A size that a run brings is a formula in
 * `dims` and a place of the table in `slots`, which is -1 for numbers; then `bytes` is 0.
 */
export interface TensorSpec {
  readonly name: string;
  readonly type: DataType;
  readonly dims: readonly (number | string)[];
  readonly slots: readonly number[];
  readonly bytes: number;
}

/** One code file; `heapBase` is the first address after its own data and stack. */
export interface CodeFile {
  readonly file: string;
  readonly relaxed: boolean;
  readonly heapBase: number;
  readonly initialPages: number;
  readonly bytes: number;
  readonly sha256: string;
}

/** What a checked manifest.json says that this runtime needs. */
export interface Manifest {
  readonly name: string;
  readonly entry: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly threads: number;
  readonly arenaBytes: number;
  readonly scratchBytes: number;
  readonly weights: { readonly file: string | null; readonly bytes: number; readonly sha256: string };
  readonly code: readonly CodeFile[];
  /** Of a model with sizes that a run brings. */
  readonly table: Table | null;
}

export type Json = Record<string, unknown>;

/** Refuse a field in the words of the other runtimes. */
export function fail(where: string, expected: string | number, got: unknown, what: string = "is wrong"): never {
  const field = where === "" ? "(the whole file)" : where;
  if (got === undefined) throw new GossamerError("manifest", "manifest.json", `field ${field} is missing`);
  throw new GossamerError("manifest", "manifest.json", `field ${field} ${what}`, expected, got);
}

export function object(value: unknown, where: string): Json {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Json;
  fail(where, "an object", value);
}

export function list(value: unknown, where: string, limit: number): unknown[] {
  if (!Array.isArray(value)) fail(where, "a list", value);
  if (value.length > limit) fail(where, `at most ${limit} elements`, value.length, "is too long");
  return value;
}

export function whole(json: Json, key: string, where: string, low: number = 0, high: number = MEMORY_LIMIT): number {
  const value = json[key];
  if (Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high) return value as number;
  fail(where + key, `a whole number in ${low}..${high}`, value);
}

export function text(json: Json, key: string, where: string, pattern: RegExp, meaning: string): string {
  const value = json[key];
  if (typeof value === "string" && pattern.test(value)) return value;
  fail(where + key, typeof value === "string" ? meaning : "a string", value);
}

const NAME = /^[^]{0,4096}$/;
// A file beside the manifest: no folders, no drive letters, neither "." nor "..".
const FILE = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$/;

const name = (json: Json, where: string): string => text(json, "name", where, NAME, "a name of at most 4096 characters");
const file = (json: Json, where: string): string => text(json, "file", where, FILE, `text matching ${FILE.source.slice(1, -1)}`);
const hash = (json: Json, where: string): string => text(json, "sha256", where, /^[0-9a-f]{64}$/, "text matching [0-9a-f]{64}");

function unique<T>(items: readonly T[], key: (item: T) => unknown, where: string): readonly T[] {
  const seen = new Set();
  for (const item of items) {
    if (seen.has(key(item))) fail(where, "different names", key(item));
    seen.add(key(item));
  }
  return items;
}

function size(dim: unknown, where: string): void {
  if (!Number.isSafeInteger(dim) || (dim as number) < 0 || (dim as number) > 2 ** 40) {
    fail(where, `a whole number in 0..${2 ** 40}`, dim);
  }
}

function tensor(value: unknown, where: string): TensorSpec {
  const json = object(value, where);
  const type = json["dtype"];
  if (!isDataType(type)) fail(`${where}.dtype`, `one of ${TYPE_NAMES}`, type);
  const dims = Object.freeze(list(json["shape"], `${where}.shape`, 32)) as readonly (number | string)[];
  dims.forEach((dim, i) => typeof dim === "string" || size(dim, `${where}.shape[${i}]`));
  const slots = readSlots(json, dims, `${where}.`);
  const bytes = slots.length > 0 ? 0 : sizeOf(dims) * bytesPerElement(type);
  if (!(bytes <= MEMORY_LIMIT)) fail(`${where}.shape`, `at most ${MEMORY_LIMIT} bytes`, dims, "is too large");
  return { name: name(json, `${where}.`), type, dims, slots, bytes };
}

// A WebAssembly function has at most 1000 parameters, and five are ours.
const tensors = (json: Json, key: string): readonly TensorSpec[] =>
  unique(
    list(json[key], key, 497).map((value, i) => tensor(value, `${key}[${i}]`)),
    (spec) => spec.name,
    key,
  );

function codeFile(json: Json, where: string, files: Json): CodeFile {
  const relaxed = json["relaxed"];
  if (typeof relaxed !== "boolean") fail(`${where}relaxed`, "true or false", relaxed);
  return {
    ...listed(files, file(json, where)),
    relaxed,
    heapBase: whole(json, "heap_base", where),
    initialPages: whole(json, "initial_pages", where, 0, MEMORY_LIMIT / 65536),
  };
}

/** Size and hash of a file, from the table of all files. */
function listed(files: Json, key: string): { file: string; bytes: number; sha256: string } {
  const where = `files.${key}`;
  const json = object(files[key], where);
  return { file: key, bytes: whole(json, "bytes", `${where}.`), sha256: hash(json, `${where}.`) };
}

function codeFiles(json: Json, files: Json): readonly CodeFile[] {
  const found: CodeFile[] = [];
  list(json["code"], "code", 64).forEach((value, i) => {
    const item = object(value, `code[${i}]`);
    if (item["role"] === "wasm") found.push(codeFile(item, `code[${i}].`, files));
  });
  if (found.length === 0) {
    const target = json["target"];
    const got = typeof target === "object" && target !== null ? (target as Json)["name"] : target;
    fail("target", "an artifact compiled for wasm", got ?? null, "has no WebAssembly code");
  }
  return unique(found, (code) => code.relaxed, "code: relaxed");
}

function weightTable(json: Json, bytes: number): void {
  list(json["tensors"], "weights.tensors", 1e6).forEach((value, i) => {
    const where = `weights.tensors[${i}].`;
    const item = object(value, where.slice(0, -1));
    name(item, where);
    const offset = whole(item, "offset", where, 0, bytes);
    if (offset % 64 !== 0) fail(`${where}offset`, "a multiple of 64", offset);
    whole(item, "bytes", where, 0, bytes - offset);
  });
}

function weights(json: Json, files: Json): Manifest["weights"] {
  const bytes = whole(json, "bytes", "weights.");
  const sha256 = hash(json, "weights.");
  weightTable(json, bytes);
  if (json["file"] === null) return { file: null, bytes, sha256 };
  const entry = listed(files, file(json, "weights."));
  if (entry.bytes !== bytes) fail("weights.bytes", `${entry.bytes} as in files`, bytes);
  if (entry.sha256 !== sha256) fail("weights.sha256", `${entry.sha256} as in files`, sha256);
  return entry;
}

/** Check manifest.json as hostile input; anything unexpected is a GossamerError with code "manifest". */
export function readManifest(bytes: Uint8Array): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new GossamerError("manifest", "manifest.json", "is not JSON", undefined, error);
  }
  const json = object(value, "");
  if (json["format"] !== "gossamer-artifact") fail("format", "one of gossamer-artifact", json["format"]);
  if (json["version"] !== 2 && json["version"] !== 3) {
    const what = "was written in another version of the format";
    throw new GossamerError("manifest", "manifest.json", what, "version 2 or 3", json["version"]);
  }
  const files = object(json["files"], "files");
  const code = codeFiles(json, files);
  const [inputs, outputs] = [tensors(json, "inputs"), tensors(json, "outputs")];
  const table = json["version"] === 3 ? readTable(object(json["table"], "table")) : null;
  checkTable(table, inputs, outputs);
  return {
    table,
    name: name(json, ""),
    entry: text(json, "entry", "", /^gossamer_entry_[A-Za-z_][A-Za-z0-9_]{0,199}$/, "text matching gossamer_entry_[A-Za-z_][A-Za-z0-9_]{0,199}"),
    inputs,
    outputs,
    threads: whole(json, "threads", "", 1, MOST_THREADS),
    arenaBytes: whole(json, "arena_bytes", ""),
    scratchBytes: whole(json, "scratch_bytes", ""),
    weights: weights(object(json["weights"], "weights"), files),
    code,
  };
}
