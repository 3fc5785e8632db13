import { GossamerError } from "./errors.js";
import { bytesPerElement, isDataType, sizeOf, TYPE_NAMES, type DataType } from "./tensor.js";

/** The most memory one instance may have: 4 GiB without the last page, in bytes. */
export const MEMORY_LIMIT: number = 2 ** 32 - 2 ** 16;

/** The most threads of one run. */
export const MOST_THREADS = 16;

/** An input or output: `dims` counts elements, `bytes` is the size of its data. */
export interface TensorSpec {
  readonly name: string;
  readonly type: DataType;
  readonly dims: readonly number[];
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
}

type Json = Record<string, unknown>;

function fail(where: string, expected: string | number, got: unknown, what = "wrong value"): never {
  throw new GossamerError("manifest", `manifest.json: ${where}`, what, expected, got);
}

function object(value: unknown, where: string): Json {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Json;
  fail(where, "an object", value);
}

function list(value: unknown, where: string, limit: number): unknown[] {
  if (Array.isArray(value) && value.length <= limit) return value;
  fail(where, `a list of at most ${limit}`, Array.isArray(value) ? value.length : value);
}

function whole(json: Json, key: string, where: string, low = 0, high = MEMORY_LIMIT): number {
  const value = json[key];
  if (Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high) return value as number;
  fail(where + key, `a whole number from ${low} to ${high}`, value);
}

function text(json: Json, key: string, where: string, pattern: RegExp, meaning: string): string {
  const value = json[key];
  if (typeof value === "string" && pattern.test(value)) return value;
  fail(where + key, meaning, value);
}

const NAME = /^[^]{0,4096}$/;
// A file beside the manifest: no folders, no drive letters, neither "." nor "..".
const FILE = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$/;

const name = (json: Json, where: string): string => text(json, "name", where, NAME, "a name of at most 4096 characters");
const file = (json: Json, where: string): string => text(json, "file", where, FILE, "the name of a file in this folder");
const hash = (json: Json, where: string): string => text(json, "sha256", where, /^[0-9a-f]{64}$/, "64 hexadecimal digits");

function unique<T>(items: readonly T[], key: (item: T) => unknown, where: string): readonly T[] {
  const seen = new Set();
  for (const item of items) {
    if (seen.has(key(item))) fail(where, "each once", key(item), "the same twice");
    seen.add(key(item));
  }
  return items;
}

function tensor(value: unknown, where: string): TensorSpec {
  const json = object(value, where);
  const type = json["dtype"];
  if (!isDataType(type)) fail(`${where}.dtype`, `one of ${TYPE_NAMES}`, type, "unknown type");
  const dims = Object.freeze(list(json["shape"], `${where}.shape`, 32)) as readonly number[];
  const bytes = sizeOf(dims) * bytesPerElement(type);
  if (!(bytes <= MEMORY_LIMIT)) fail(`${where}.shape`, `sizes of at most ${MEMORY_LIMIT} bytes in all`, dims);
  return { name: name(json, `${where}.`), type, dims, bytes };
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
  const where = `files[${JSON.stringify(key)}]`;
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
    fail("target", "an artifact compiled for wasm", got, "no WebAssembly code here");
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
    throw new GossamerError("manifest", "manifest.json", "not JSON", undefined, error);
  }
  const json = object(value, "top");
  if (json["format"] !== "gossamer-artifact") fail("format", '"gossamer-artifact"', json["format"]);
  if (json["version"] !== 2) fail("version", 2, json["version"], "made for another version of this runtime");
  const files = object(json["files"], "files");
  const code = codeFiles(json, files);
  return {
    name: name(json, ""),
    entry: text(json, "entry", "", /^gossamer_entry_[A-Za-z_][A-Za-z0-9_]{0,199}$/, "gossamer_entry_ and an identifier"),
    inputs: tensors(json, "inputs"),
    outputs: tensors(json, "outputs"),
    threads: whole(json, "threads", "", 1, MOST_THREADS),
    arenaBytes: whole(json, "arena_bytes", ""),
    scratchBytes: whole(json, "scratch_bytes", ""),
    weights: weights(object(json["weights"], "weights"), files),
    code,
  };
}
