import assert from "node:assert/strict";
import { test } from "node:test";

import { InferenceSession } from "../../runtime/web/dist/gossamer.js";
import { changedToy, failing, readToy } from "./support.mjs";

const BIG = 2 ** 53;

// What is changed, and the field that the refusal names.
const HOSTILE = [
  ["is a list", () => [], /top: /],
  ["is null", () => JSON.parse("null") ?? "text", /top: /],
  ["is of another format", (m) => void (m.format = "zip"), /format: .*expected "gossamer-artifact"; got "zip"$/],
  ["is of a later version", (m) => void (m.version = 3), /version: made for another version .*expected 2; got 3$/],
  ["has a version of text", (m) => void (m.version = "2"), /version: /],
  ["has no files", (m) => void delete m.files, /files: wrong value; expected an object; got undefined$/],
  ["has no name", (m) => void delete m.name, /name: /],
  ["has a very long name", (m) => void (m.name = "x".repeat(5000)), /name: /],
  ["has an entry that is no symbol", (m) => void (m.entry = "gossamer_entry_a b"), /entry: /],
  ["has an entry of the engine", (m) => void (m.entry = "__heap_base"), /entry: /],
  ["has no threads", (m) => void (m.threads = 0), /threads: /],
  ["has a negative arena", (m) => void (m.arena_bytes = -1), /arena_bytes: .*got -1$/],
  ["has a fractional arena", (m) => void (m.arena_bytes = 0.5), /arena_bytes: /],
  ["has an arena of text", (m) => void (m.arena_bytes = "64"), /arena_bytes: .*got "64"$/],
  ["has a boundless arena", (m) => void (m.arena_bytes = BIG), /arena_bytes: /],
  ["needs more than the engine's memory", (m) => void (m.arena_bytes = 2 ** 32 - 2 ** 16), /needs too much memory/],
  ["has inputs that are no list", (m) => void (m.inputs = {}), /inputs: .*expected a list/],
  ["has too many inputs", (m) => void (m.inputs = Array(1000).fill(m.inputs[0])), /inputs: .*at most 497; got 1000$/],
  ["has the same input twice", (m) => void m.inputs.push(m.inputs[0]), /inputs: the same twice; .*got "x"$/],
  ["has the same output twice", (m) => void m.outputs.push(m.outputs[0]), /outputs: the same twice; .*got "y"$/],
  ["has an input that is null", (m) => void (m.inputs[1] = null), /inputs\[1\]: .*got null$/],
  ["has an input without a name", (m) => void delete m.inputs[0].name, /inputs\[0\]\.name: /],
  ["has an unknown type", (m) => void (m.inputs[0].dtype = "float8"), /inputs\[0\]\.dtype: unknown type; .*got "float8"$/],
  ["has a prototype's type", (m) => void (m.inputs[0].dtype = "toString"), /inputs\[0\]\.dtype: /],
  ["has no shape", (m) => void delete m.outputs[0].shape, /outputs\[0\]\.shape: /],
  ["has a negative size", (m) => void (m.inputs[0].shape = [-2, -3]), /inputs\[0\]\.shape: .*got \[-2,-3\]$/],
  ["has a size of text", (m) => void (m.inputs[0].shape = ["6"]), /inputs\[0\]\.shape: /],
  ["has sizes whose product overflows", (m) => void (m.inputs[0].shape = [2 ** 31, 2 ** 31, 2 ** 31]), /inputs\[0\]\.shape: /],
  ["hides an overflow behind a zero", (m) => void (m.inputs[0].shape = [...Array(30).fill(BIG - 1), 0]), /inputs\[0\]\.shape: /],
  ["has too many dimensions", (m) => void (m.inputs[0].shape = Array(33).fill(1)), /inputs\[0\]\.shape: .*at most 32; got 33$/],
  ["has no weights", (m) => void delete m.weights, /weights: /],
  ["has weights outside the folder", (m) => void (m.weights.file = "../weights.bin"), /weights\.file: /],
  ["has weights in a hidden file", (m) => void (m.weights.file = ".weights"), /weights\.file: /],
  ["has weights on another host", (m) => void (m.weights.file = "//host/weights"), /weights\.file: /],
  ["has weights at another address", (m) => void (m.weights.file = "http:x"), /weights\.file: /],
  ["has weights in no listed file", (m) => void (m.weights.file = "other.bin"), /files\["other\.bin"\]: /],
  ["has weights in a prototype's file", (m) => void (m.weights.file = "toString"), /files\["toString"\]: /],
  ["has weights of two sizes", (m) => void (m.weights.bytes = 64), /weights\.tensors\[1\]|weights\.bytes: .*expected 128/],
  ["has weights of two hashes", (m) => void (m.weights.sha256 = "0".repeat(64)), /weights\.sha256: /],
  ["has a short hash", (m) => void (m.weights.sha256 = "00"), /weights\.sha256: .*64 hexadecimal/],
  ["has no weight table", (m) => void delete m.weights.tensors, /weights\.tensors: /],
  ["has a weight outside the blob", (m) => void (m.weights.tensors[1].bytes = 65), /weights\.tensors\[1\]\.bytes: .*0 to 64; got 65$/],
  ["has a weight that is not aligned", (m) => void (m.weights.tensors[0].offset = 4), /weights\.tensors\[0\]\.offset: .*multiple of 64; got 4$/],
  ["has a negative offset", (m) => void (m.weights.tensors[0].offset = -64), /weights\.tensors\[0\]\.offset: /],
  ["has no code", (m) => void (m.code = []), /target: no WebAssembly code here; .*got "wasm"$/],
  ["is of another machine", (m) => void ((m.code = [{ role: "shared", file: "model.so" }]), (m.target.name = "x86-64-v3")), /target: .*got "x86-64-v3"$/],
  ["has neither code nor target", (m) => void ((m.code = []), delete m.target), /target: .*got undefined$/],
  ["has code that is not listed", (m) => void delete m.files["model.simd.wasm"], /files\["model\.simd\.wasm"\]: /],
  ["has code of a negative size", (m) => void (m.files["model.simd.wasm"].bytes = -1), /files\["model\.simd\.wasm"\]\.bytes: /],
  ["has code without a hash", (m) => void delete m.files["model.simd.wasm"].sha256, /files\["model\.simd\.wasm"\]\.sha256: /],
  ["has code outside the folder", (m) => void (m.code[0].file = "a/b.wasm"), /code\[0\]\.file: /],
  ["has two builds of one kind", (m) => void m.code.forEach((c) => (c.relaxed = true)), /code: relaxed: the same twice/],
  ["does not tell the builds apart", (m) => void delete m.code[0].relaxed, /code\[0\]\.relaxed: .*true or false; got undefined$/],
  ["has no heap base", (m) => void delete m.code[0].heap_base, /code\[0\]\.heap_base: /],
  ["has a heap base beyond memory", (m) => void (m.code[0].heap_base = 2 ** 33), /code\[0\]\.heap_base: /],
  ["has more pages than memory", (m) => void (m.code[0].initial_pages = 65536), /code\[0\]\.initial_pages: .*65535; got 65536$/],
];

for (const [what, change, field] of HOSTILE) {
  test(`a manifest that ${what} is refused, naming the field`, async () => {
    const files = changedToy(change);
    const text = new RegExp(`^manifest\\.json: (?:${field.source})`);
    await assert.rejects(InferenceSession.create(files), failing("manifest", text));
  });
}

for (const [what, bytes] of [
  ["is cut short", readToy()["manifest.json"].subarray(0, 200)],
  ["is a web page", new TextEncoder().encode("<!doctype html><title>Not found</title>")],
  ["is not UTF-8", new Uint8Array([0x22, 0xff, 0x22])],
  ["is empty", new Uint8Array()],
]) {
  test(`a manifest that ${what} is refused as not JSON`, async () => {
    const opened = InferenceSession.create({ ...readToy(), "manifest.json": bytes });
    await assert.rejects(opened, failing("manifest", /^manifest\.json: not JSON; got /));
  });
}

test("a manifest cannot reach a prototype", async () => {
  const files = readToy();
  const text = new TextDecoder().decode(files["manifest.json"]);
  files["manifest.json"] = new TextEncoder().encode(text.replace('"layers"', '"__proto__": {"polluted": 1}, "layers"'));
  await InferenceSession.create(files);
  assert.equal({}.polluted, undefined);
});

test("a manifest may hold more than this runtime reads", async () => {
  const files = changedToy((manifest) => void (manifest.later = { anything: [1] }));
  assert.equal((await InferenceSession.create(files)).name, "toy");
});
