import { GossamerError, show } from "./errors.js";
import { classOf, kindOf } from "./tensor.js";

/** The files of an artifact by name, in memory. */
export type Files =
  | Readonly<Record<string, Uint8Array | ArrayBuffer>>
  | ReadonlyMap<string, Uint8Array | ArrayBuffer>;

/** Where the files of an artifact come from. */
export interface Source {
  /** False when a file is known to be missing. */
  has(name: string): boolean;
  /** The bytes of a file, in order. */
  read(name: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** A folder (or its manifest.json) by URL or, in Node, by path; or the files themselves. */
export function openSource(from: string | URL | Files): Source {
  if (typeof from === "string" || from instanceof URL) {
    const base = folder(from);
    const fs = base.protocol === "file:" ? node("node:fs") : undefined;
    const read = (name: string, signal: AbortSignal): AsyncIterable<Uint8Array> => {
      const url = new URL(name, base);
      return fs ? fs.createReadStream(url, { signal, highWaterMark: 2 ** 20 }) : fetched(url, signal);
    };
    return { has: () => true, read };
  }
  if (typeof from !== "object" || from === null || ArrayBuffer.isView(from) || kindOf(from) === "ArrayBuffer") {
    const expected = "a URL of an artifact's folder, or its files by name";
    throw new GossamerError("artifact", undefined, "cannot open this", expected, kindOf(from));
  }
  const files = from instanceof Map ? from : new Map(Object.entries(from));
  return { has: (name) => files.has(name), read: (name) => given(files, name) };
}

async function* given(files: ReadonlyMap<string, unknown>, name: string): AsyncGenerator<Uint8Array> {
  const file = files.get(name);
  if (file === undefined) {
    throw new GossamerError("artifact", name, "not among the files given", undefined, [...files.keys()]);
  }
  if (classOf(file) === "Uint8Array") yield file as Uint8Array;
  else if (kindOf(file) === "ArrayBuffer") yield new Uint8Array(file as ArrayBuffer);
  else {
    throw new GossamerError("artifact", name, "not bytes", "a Uint8Array or ArrayBuffer", kindOf(file));
  }
}

interface NodeWorker {
  postMessage(message: unknown): void;
  on(event: "message" | "error", hear: (what: unknown) => void): void;
  ref(): void;
  unref(): void;
  terminate(): Promise<number>;
}

interface NodeModules {
  "node:fs": { createReadStream(url: URL, options: object): AsyncIterable<Uint8Array> };
  "node:url": { pathToFileURL(path: string): URL };
  "node:worker_threads": { Worker: new (program: string, options: { eval: true }) => NodeWorker };
}

/** A module of Node's own, without an import that bundlers for browsers would follow; undefined in browsers. */
export function node<K extends keyof NodeModules>(name: K): NodeModules[K] | undefined {
  const { process, location } = globalThis as {
    process?: { getBuiltinModule?(name: K): NodeModules[K] };
    location?: unknown;
  };
  return location === undefined ? process?.getBuiltinModule?.(name) : undefined;
}

function folder(from: string | URL): URL {
  let url: URL;
  try {
    url = absolute(from);
  } catch {
    throw new GossamerError("artifact", show(from), "not a URL");
  }
  if (!/\.json$/i.test(url.pathname) && !url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

function absolute(from: string | URL): URL {
  // A scheme has two letters or more: "C:" is a drive.
  if (from instanceof URL || /^[a-z][a-z0-9+.-]+:/i.test(from)) return new URL(from);
  const url = node("node:url");
  if (url) return url.pathToFileURL(from);
  return new URL(from, typeof document === "undefined" ? location.href : document.baseURI);
}

async function* fetched(url: URL, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const response = await fetch(url, { signal });
  if (!response.ok) {
    throw new GossamerError("artifact", url.href, "the server refused it", 200, response.status);
  }
  // Streams are no async iterables in every browser.
  const reader = response.body!.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    await reader.cancel();
  }
}

/**
 * Pass the bytes of a file to `take` with their offset; at most `limit` of them.
 * Whatever fails on the way becomes a GossamerError with code "artifact". Returns the number of bytes.
 */
export async function readParts(
  source: Source,
  name: string,
  limit: number,
  signal: AbortSignal,
  take: (part: Uint8Array, offset: number) => void,
): Promise<number> {
  let offset = 0;
  try {
    for await (const part of source.read(name, signal)) {
      if (offset + part.length > limit) {
        throw new GossamerError("artifact", name, "longer than it should be", `${limit} bytes`);
      }
      take(part, offset);
      offset += part.length;
    }
  } catch (error) {
    if (error instanceof GossamerError) throw error;
    throw new GossamerError("artifact", name, "cannot be read", undefined, error);
  }
  return offset;
}

/** A whole file of at most `limit` bytes. */
export async function readAll(
  source: Source,
  name: string,
  limit: number,
  signal: AbortSignal,
  progress: (bytes: number) => void = () => {},
): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  const length = await readParts(source, name, limit, signal, (part) => {
    parts.push(part);
    progress(part.length);
  });
  const all = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}
