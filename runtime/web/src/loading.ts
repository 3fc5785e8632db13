import { GossamerError } from "./errors.js";
import type { CodeFile, Manifest } from "./manifest.js";
import { shareable } from "./sharing.js";
import { type Source, readAll, readParts } from "./source.js";
import { kindOf } from "./tensor.js";

/** SHA-256 in lower-case hexadecimal; null outside secure contexts, where engines do not offer it. */
async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string | null> {
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle as SubtleCrypto | undefined;
  if (subtle === undefined) return null;
  const own = kindOf(bytes.buffer) === "ArrayBuffer" ? bytes : bytes.slice(); // shared memory is not taken
  const digest = new Uint8Array(await subtle.digest("SHA-256", own));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Compare size and hash with the manifest's; returns whether the hash could be computed. */
async function check(
  bytes: Uint8Array<ArrayBuffer>,
  length: number,
  wanted: { readonly file: string | null; readonly bytes: number; readonly sha256: string },
): Promise<boolean> {
  const where = wanted.file ?? "";
  if (length !== wanted.bytes) {
    throw new GossamerError("artifact", where, "cut short", `${wanted.bytes} bytes`, length);
  }
  const got = await sha256(bytes);
  if (got !== null && got !== wanted.sha256) {
    const advice = "the file was altered or is of another build";
    throw new GossamerError("artifact", where, "wrong SHA-256", wanted.sha256, got, advice);
  }
  return got !== null;
}

/** Bytes read so far are reported here. */
export type Progress = (bytes: number) => void;

/** Stream the weights straight to their place in `memory`; returns whether their hash was checked. */
export async function loadWeights(
  source: Source,
  weights: Manifest["weights"],
  memory: WebAssembly.Memory,
  address: number,
  signal: AbortSignal,
  progress: Progress,
): Promise<boolean> {
  if (weights.file === null) return true; // they are in the code, and hashed with it
  const target = new Uint8Array(memory.buffer as ArrayBuffer, address, weights.bytes);
  const length = await readParts(source, weights.file, weights.bytes, signal, (part, offset) => {
    target.set(part, offset);
    progress(part.length);
  });
  return check(target, length, weights);
}

/** Read, check and compile the code, for a shared memory if `shared`; returns it and whether its hash was checked. */
export async function loadCode(
  source: Source,
  code: CodeFile,
  shared: boolean,
  signal: AbortSignal,
  progress: Progress,
): Promise<[WebAssembly.Module, boolean]> {
  const bytes = await readAll(source, code.file, code.bytes, signal, progress);
  const verified = await check(bytes, bytes.length, code);
  const module = shared ? shareable(bytes) : bytes;
  if (module === null) throw new GossamerError("artifact", code.file, "cannot be shared by threads");
  try {
    return [await WebAssembly.compile(module), verified];
  } catch (error) {
    throw new GossamerError("engine", code.file, "this engine cannot compile it", undefined, error);
  }
}
