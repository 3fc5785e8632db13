// What the tests share: the toy artifact's files, changed copies of them, and a server for folders.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { readdirSync, readFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { InferenceSession, Tensor } from "../../runtime/web/dist/gossamer.js";

/** The folder of artifacts that the test run made; see conftest.py. */
export const TOYS = process.env.GOSSAMER_TOYS;
export const WEB = fileURLToPath(new URL("../../runtime/web/", import.meta.url));

/** The files of an artifact by name, as fresh copies. */
export function readToy(name = "toy") {
  const folder = join(TOYS, name);
  return Object.fromEntries(readdirSync(folder).map((file) => [file, new Uint8Array(readFileSync(join(folder, file)))]));
}

/** The toy with its manifest changed by `change(manifest)`. */
export function changedToy(change, name = "toy") {
  const files = readToy(name);
  const manifest = JSON.parse(new TextDecoder().decode(files["manifest.json"]));
  const replaced = change(manifest) ?? manifest;
  files["manifest.json"] = new TextEncoder().encode(JSON.stringify(replaced));
  return files;
}

/** The toy with other code in the file of its simd build, and a manifest that agrees. */
export function toyWithCode(bytes, change = () => {}) {
  const files = changedToy((manifest) => {
    manifest.code = manifest.code.filter((code) => !code.relaxed);
    manifest.files["model.simd.wasm"] = { bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
    change(manifest);
  });
  files["model.simd.wasm"] = bytes;
  return files;
}

export const toyFeeds = () => ({
  x: new Tensor("float32", [0, 1, 2, 3, 4, 5], [2, 3]),
  n: new Tensor("int64", [1n, 2n ** 40n], [2]),
});
export const TOY_Y = [10, 23, 38, 16, 32, 50];

export const openToy = (options) => InferenceSession.create(readToy(), options);

const TYPES = { html: "text/html", js: "text/javascript", json: "application/json", wasm: "application/wasm" };

/** Serve files by path over HTTP, with `headers`, while `use(base)` runs; `answer(path, response)` may answer itself by returning true. */
export async function serving(files, use, answer = () => false, headers = {}) {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname).slice(1);
    if (answer(path, response)) return;
    const bytes = files[path];
    const type = TYPES[path.split(".").pop()] ?? "application/octet-stream";
    response.writeHead(bytes ? 200 : 404, { ...headers, "content-type": type });
    response.end(bytes);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  try {
    return await use(`http://127.0.0.1:${server.address().port}/`);
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
}

/** A matcher for node:assert: a GossamerError of `code` whose one line matches `text`. */
export const failing = (code, text) => (error) => {
  const fits = error.name === "GossamerError" && error.code === code && text.test(error.message);
  if (fits && !error.message.includes("\n")) return true;
  throw new Error(`expected a ${code} error like ${text}, got ${error.name} ${error.code}: ${error.message}`);
};
