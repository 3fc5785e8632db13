import assert from "node:assert/strict";
import { test } from "node:test";

import { InferenceSession } from "../../runtime/web/dist/gossamer.js";
import { changedToy, failing, readToy } from "./support.mjs";

const BIG = 2 ** 53;

// What is changed, and the field that the refusal names.
const HOSTILE = [
  ["is a list", () => [], /field \(the whole file\) is wrong/],
  ["is text", () => "text", /field \(the whole file\) is wrong/],
  ["is of another format", (m) => void (m.format = "zip"), /format is wrong; expected one of gossamer-artifact; got "zip"$/],
  ["is of a later version", (m) => void (m.version = 4), /was written in another version .*expected version 2 or 3; got 4$/],
  ["has a version of text", (m) => void (m.version = "2"), /was written in another version .*got "2"$/],
  ["has no files", (m) => void delete m.files, /files is missing$/],
  ["has no name", (m) => void delete m.name, /name (?:is|has) /],
  ["has a very long name", (m) => void (m.name = "x".repeat(5000)), /name (?:is|has) /],
  ["has an entry that is no symbol", (m) => void (m.entry = "gossamer_entry_a b"), /entry (?:is|has) /],
  ["has an entry of the engine", (m) => void (m.entry = "__heap_base"), /entry (?:is|has) /],
  ["has no threads", (m) => void (m.threads = 0), /threads (?:is|has) /],
  ["has a negative arena", (m) => void (m.arena_bytes = -1), /arena_bytes (?:is|has) .*got -1$/],
  ["has a fractional arena", (m) => void (m.arena_bytes = 0.5), /arena_bytes (?:is|has) /],
  ["has an arena of text", (m) => void (m.arena_bytes = "64"), /arena_bytes (?:is|has) .*got "64"$/],
  ["has a boundless arena", (m) => void (m.arena_bytes = BIG), /arena_bytes (?:is|has) /],
  ["needs more than the engine's memory", (m) => void (m.arena_bytes = 2 ** 32 - 2 ** 16), /needs too much memory/],
  ["has inputs that are no list", (m) => void (m.inputs = {}), /inputs is wrong; expected a list; got \{\}$/],
  ["has too many inputs", (m) => void (m.inputs = Array(1000).fill(m.inputs[0])), /inputs is too long; expected at most 497 elements; got 1000$/],
  ["has the same input twice", (m) => void m.inputs.push(m.inputs[0]), /inputs is wrong; expected different names; got "x"$/],
  ["has the same output twice", (m) => void m.outputs.push(m.outputs[0]), /outputs is wrong; expected different names; got "y"$/],
  ["has an input that is null", (m) => void (m.inputs[1] = null), /inputs\[1\] (?:is|has) .*got null$/],
  ["has an input without a name", (m) => void delete m.inputs[0].name, /inputs\[0\]\.name (?:is|has) /],
  ["has an unknown type", (m) => void (m.inputs[0].dtype = "float8"), /inputs\[0\]\.dtype is wrong; .*got "float8"$/],
  ["has a prototype's type", (m) => void (m.inputs[0].dtype = "toString"), /inputs\[0\]\.dtype (?:is|has) /],
  ["has no shape", (m) => void delete m.outputs[0].shape, /outputs\[0\]\.shape (?:is|has) /],
  ["has a negative size", (m) => void (m.inputs[0].shape = [-2, -3]), /inputs\[0\]\.shape\[0\] is wrong; expected a whole number in 0\.\.1099511627776; got -2$/],
  ["has a size of text", (m) => void (m.inputs[0].shape = ["6"]), /inputs\[0\]\.slots is missing$/],
  ["has sizes whose product overflows", (m) => void (m.inputs[0].shape = [2 ** 31, 2 ** 31, 2 ** 31]), /inputs\[0\]\.shape (?:is|has) /],
  ["hides an overflow behind a zero", (m) => void (m.inputs[0].shape = [...Array(30).fill(BIG - 1), 0]), /inputs\[0\]\.shape\[0\] is wrong/],
  ["has too many dimensions", (m) => void (m.inputs[0].shape = Array(33).fill(1)), /inputs\[0\]\.shape is too long; expected at most 32 elements; got 33$/],
  ["has no weights", (m) => void delete m.weights, /weights (?:is|has) /],
  ["has weights outside the folder", (m) => void (m.weights.file = "../weights.bin"), /weights\.file (?:is|has) /],
  ["has weights in a hidden file", (m) => void (m.weights.file = ".weights"), /weights\.file (?:is|has) /],
  ["has weights on another host", (m) => void (m.weights.file = "//host/weights"), /weights\.file (?:is|has) /],
  ["has weights at another address", (m) => void (m.weights.file = "http:x"), /weights\.file (?:is|has) /],
  ["has weights in no listed file", (m) => void (m.weights.file = "other.bin"), /files\.other\.bin (?:is|has) /],
  ["has weights in a prototype's file", (m) => void (m.weights.file = "toString"), /files\.toString (?:is|has) /],
  ["has weights of two sizes", (m) => void (m.weights.bytes = 64), /weights\.tensors\[1\]|weights\.bytes (?:is|has) .*expected 128/],
  ["has weights of two hashes", (m) => void (m.weights.sha256 = "0".repeat(64)), /weights\.sha256 (?:is|has) /],
  ["has a short hash", (m) => void (m.weights.sha256 = "00"), /weights\.sha256 (?:is|has) .*text matching \[0-9a-f\]\{64\}/],
  ["has no weight table", (m) => void delete m.weights.tensors, /weights\.tensors (?:is|has) /],
  ["has a weight outside the blob", (m) => void (m.weights.tensors[1].bytes = 65), /weights\.tensors\[1\]\.bytes (?:is|has) .*0\.\.64; got 65$/],
  ["has a weight that is not aligned", (m) => void (m.weights.tensors[0].offset = 4), /weights\.tensors\[0\]\.offset (?:is|has) .*multiple of 64; got 4$/],
  ["has a negative offset", (m) => void (m.weights.tensors[0].offset = -64), /weights\.tensors\[0\]\.offset (?:is|has) /],
  ["has no code", (m) => void (m.code = []), /target has no WebAssembly code; .*got "wasm"$/],
  ["is of another machine", (m) => void ((m.code = [{ role: "shared", file: "model.so" }]), (m.target.name = "x86-64-v3")), /target (?:is|has) .*got "x86-64-v3"$/],
  ["has neither code nor target", (m) => void ((m.code = []), delete m.target), /target .*got null$/],
  ["has code that is not listed", (m) => void delete m.files["model.simd.wasm"], /files\.model\.simd\.wasm (?:is|has) /],
  ["has code of a negative size", (m) => void (m.files["model.simd.wasm"].bytes = -1), /files\.model\.simd\.wasm\.bytes (?:is|has) /],
  ["has code without a hash", (m) => void delete m.files["model.simd.wasm"].sha256, /files\.model\.simd\.wasm\.sha256 (?:is|has) /],
  ["has code outside the folder", (m) => void (m.code[0].file = "a/b.wasm"), /code\[0\]\.file (?:is|has) /],
  ["has two builds of one kind", (m) => void m.code.forEach((c) => (c.relaxed = true)), /code: relaxed is wrong; expected different names/],
  ["does not tell the builds apart", (m) => void delete m.code[0].relaxed, /code\[0\]\.relaxed is missing$/],
  ["has no heap base", (m) => void delete m.code[0].heap_base, /code\[0\]\.heap_base (?:is|has) /],
  ["has a heap base beyond memory", (m) => void (m.code[0].heap_base = 2 ** 33), /code\[0\]\.heap_base (?:is|has) /],
  ["has more pages than memory", (m) => void (m.code[0].initial_pages = 65536), /code\[0\]\.initial_pages (?:is|has) .*65535; got 65536$/],
];

for (const [what, change, field] of HOSTILE) {
  test(`a manifest that ${what} is refused, naming the field`, async () => {
    const files = changedToy(change);
    const text = new RegExp(`^manifest\\.json: (?:field )?(?:${field.source})`);
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
    await assert.rejects(opened, failing("manifest", /^manifest\.json: is not JSON; got /));
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
