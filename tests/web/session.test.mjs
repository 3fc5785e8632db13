import assert from "node:assert/strict";
import { test } from "node:test";

import { hasRelaxedSimd, InferenceSession, Tensor } from "../../runtime/web/dist/gossamer.js";
import { changedToy, failing, openToy, readToy, TOY_Y, toyFeeds, toyWithCode } from "./support.mjs";

test("outputs are those of the model, by name, with types and dims", async () => {
  const session = await openToy();
  const outputs = await session.run(toyFeeds());
  assert.deepEqual(Object.keys(outputs), ["y", "__proto__"]);
  assert.ok(outputs.y instanceof Tensor);
  assert.equal(outputs.y.type, "float32");
  assert.deepEqual(outputs.y.dims, [2, 3]);
  assert.deepEqual([...outputs.y.data], TOY_Y);
  const counted = Object.getOwnPropertyDescriptor(outputs, "__proto__").value;
  assert.deepEqual(counted.data, new BigInt64Array([2n, 2n ** 40n + 1n, 1n]));
});

test("a session tells its inputs and outputs as onnxruntime-web does", async () => {
  const session = await openToy();
  assert.equal(session.name, "toy");
  assert.deepEqual(session.inputNames, ["x", "n"]);
  assert.deepEqual(session.outputNames, ["y", "__proto__"]);
  assert.deepEqual(session.inputMetadata, [
    { name: "x", isTensor: true, type: "float32", shape: [2, 3] },
    { name: "n", isTensor: true, type: "int64", shape: [2] },
  ]);
  assert.deepEqual(session.outputMetadata[1], { name: "__proto__", isTensor: true, type: "int64", shape: [3] });
  assert.equal(session.verified, true);
  assert.equal(session.memoryBytes % 65536, 0);
});

test("metadata cannot be changed under the session's feet", async () => {
  const session = await openToy();
  assert.throws(() => session.inputMetadata[0].shape.push(1), TypeError);
  assert.throws(() => session.inputNames.push("z"), TypeError);
});

test("outputs are copies: a later run leaves them alone", async () => {
  const session = await openToy();
  const first = await session.run(toyFeeds());
  const feeds = { ...toyFeeds(), x: new Tensor("float32", new Float32Array(6), [2, 3]) };
  const second = await session.run(feeds);
  assert.deepEqual([...first.y.data], TOY_Y);
  assert.deepEqual([...second.y.data], [10, 20, 30, 10, 20, 30]);
});

test("runs started together are computed one after the other", async () => {
  const session = await openToy();
  const feeds = Array.from({ length: 8 }, (_, i) => ({ ...toyFeeds(), n: new Tensor("int64", [BigInt(i), 0n], [2]) }));
  const results = await Promise.all(feeds.map((feed) => session.run(feed)));
  const counted = results.map((outputs) => Object.getOwnPropertyDescriptor(outputs, "__proto__").value.data);
  assert.deepEqual(counted.map((data) => data[0]), feeds.map((_, i) => BigInt(i + 1)));
  assert.deepEqual(counted.map((data) => data[2]), feeds.map((_, i) => BigInt(i + 1)));
});

test("feeds are read when run is called, not later", async () => {
  const session = await openToy();
  const feeds = toyFeeds();
  const running = session.run(feeds);
  feeds.x.data.fill(0);
  assert.deepEqual([...(await running).y.data], TOY_Y);
});

test("only the outputs asked for are returned", async () => {
  const session = await openToy();
  assert.deepEqual(Object.keys(await session.run(toyFeeds(), ["y"])), ["y"]);
  await assert.rejects(session.run(toyFeeds(), ["q"]), failing("feed", /^output "q": no such output; expected "y", /));
});

test("two sessions of one artifact share nothing", async () => {
  const [one, two] = await Promise.all([openToy(), openToy()]);
  await one.run(toyFeeds());
  const outputs = await two.run(toyFeeds());
  assert.equal(Object.getOwnPropertyDescriptor(outputs, "__proto__").value.data[2], 1n);
});

test("a part of a larger buffer is a feed too", async () => {
  const session = await openToy();
  const data = new Float32Array([9, 9, 0, 1, 2, 3, 4, 5, 9]).subarray(2, 8);
  const outputs = await session.run({ ...toyFeeds(), x: new Tensor("float32", data, [2, 3]) });
  assert.deepEqual([...outputs.y.data], TOY_Y);
});

test("a released session refuses to run", async () => {
  const session = await openToy();
  await session.release();
  await session.release();
  await assert.rejects(session.run(toyFeeds()), failing("engine", /released/));
});

test("the relaxed build is taken where the engine has it, and either can be forced", async () => {
  assert.equal((await openToy()).variant, hasRelaxedSimd() ? "relaxed" : "simd");
  const simd = await openToy({ variant: "simd" });
  assert.equal(simd.variant, "simd");
  assert.deepEqual([...(await simd.run(toyFeeds())).y.data], TOY_Y);
  await assert.rejects(openToy({ variant: "fast" }), failing("engine", /^variant: unknown; .*got "fast"$/));
});

test("without relaxed SIMD the baseline build is taken, and forcing the other is refused", async (context) => {
  context.mock.method(WebAssembly, "validate", () => false);
  assert.equal((await openToy()).variant, "simd");
  await assert.rejects(openToy({ variant: "relaxed" }), failing("engine", /^model\.relaxed\.wasm: .*no relaxed SIMD/));
  const only = changedToy((manifest) => void (manifest.code = manifest.code.filter((code) => code.relaxed)));
  await assert.rejects(InferenceSession.create(only), failing("engine", /no relaxed SIMD/));
});

test("a variant that the artifact lacks is named", async () => {
  const files = changedToy((manifest) => void (manifest.code = manifest.code.filter((code) => code.relaxed)));
  await assert.rejects(InferenceSession.create(files, { variant: "simd" }), failing("artifact", /^manifest\.json: code: no simd variant here$/));
});

test("with only one code file given, that one is taken", async () => {
  const files = readToy();
  delete files["model.relaxed.wasm"];
  assert.equal((await InferenceSession.create(files)).variant, "simd");
});

test("embedded weights are used where the code says they are", async () => {
  const session = await InferenceSession.create(readToy("embedded"));
  assert.deepEqual([...(await session.run(toyFeeds())).y.data], TOY_Y);
  assert.equal(session.verified, true);
});

test("progress counts every byte of code and weights", async () => {
  const seen = [];
  const files = readToy();
  await InferenceSession.create(files, { variant: "simd", onProgress: (...numbers) => seen.push(numbers) });
  const total = files["model.simd.wasm"].length + files["weights.bin"].length;
  assert.deepEqual(seen.at(-1), [total, total]);
  assert.ok(seen.every(([received], i) => i === 0 || received > seen[i - 1][0]));
});

test("download bytes are those of manifest, code and weights", async () => {
  const files = readToy();
  const session = await InferenceSession.create(files, { variant: "simd" });
  const sizes = ["manifest.json", "model.simd.wasm", "weights.bin"].map((name) => files[name].length);
  assert.equal(session.downloadBytes, sizes.reduce((a, b) => a + b));
});

// ---- feeds -----------------------------------------------------------------------------

const x = (type, data, dims) => ({ ...toyFeeds(), x: new Tensor(type, data, dims) });
const WRONG_FEEDS = [
  ["a missing input", () => ({ x: toyFeeds().x }), /^input "n": missing; expected "x", "n"; got \["x"\]$/],
  ["an unknown input", () => ({ ...toyFeeds(), z: toyFeeds().x }), /^input "z": no such input; expected "x", "n"/],
  ["a wrong type", () => x("float64", [0, 1, 2, 3, 4, 5], [2, 3]), /^input "x": wrong type; expected float32; got "float64"$/],
  ["wrong dims", () => x("float32", [0, 1, 2, 3, 4, 5], [3, 2]), /^input "x": wrong dims; expected \[2,3\]; got \[3,2\]$/],
  ["too few dims", () => x("float32", [0, 1, 2, 3, 4, 5]), /^input "x": wrong dims; expected \[2,3\]; got \[6\]$/],
  ["a bare array", () => ({ ...toyFeeds(), x: [1, 2] }), /^input "x": wrong type; expected float32; got undefined$/],
  ["a number", () => ({ ...toyFeeds(), x: 1 }), /^input "x": not a Tensor; expected a Tensor; got "Number"$/],
  ["null", () => ({ ...toyFeeds(), x: null }), /^input "x": not a Tensor/],
  ["an inherited input", () => Object.create(toyFeeds()), /^input "x": missing/],
  ["dims with big integers", () => ({ ...toyFeeds(), x: { ...toyFeeds().x, dims: [2n, 3n] } }), /^input "x": wrong dims/],
  [
    "a look-alike with the wrong array",
    () => ({ ...toyFeeds(), x: { type: "float32", dims: [2, 3], data: new Float64Array(6) } }),
    /^input "x": wrong data; expected Float32Array; got "Float64Array"$/,
  ],
  [
    "a look-alike with too little data",
    () => ({ ...toyFeeds(), x: { type: "float32", dims: [2, 3], data: new Float32Array(5) } }),
    /^input "x": wrong data length; expected 24 bytes; got 20$/,
  ],
  ["no feeds", () => undefined, /^feeds: wrong value; expected {name: Tensor}; got "Undefined"$/],
];

for (const [what, feeds, text] of WRONG_FEEDS) {
  test(`feeding ${what} says which, expected and got`, async () => {
    const session = await openToy();
    await assert.rejects(session.run(feeds()), failing("feed", text));
    assert.deepEqual([...(await session.run(toyFeeds())).y.data], TOY_Y);
  });
}

test("data whose buffer was given away is refused", async () => {
  const session = await openToy();
  const feeds = toyFeeds();
  structuredClone(feeds.x.data, { transfer: [feeds.x.data.buffer] });
  await assert.rejects(session.run(feeds), failing("feed", /^input "x": wrong data length; expected 24 bytes; got 0$/));
});

// ---- code that fails -------------------------------------------------------------------

test("a status that is not 0 is an error", async () => {
  const session = await openToy();
  await assert.rejects(session.run(x("float32", [NaN, 0, 0, 0, 0, 0], [2, 3])), failing("engine", /failed; expected 0; got 7$/));
});

test("a trap is an error, and the session goes on", async () => {
  const session = await openToy();
  await assert.rejects(session.run(x("float32", [Infinity, 0, 0, 0, 0, 0], [2, 3])), failing("engine", /stopped; got unreachable/));
  assert.deepEqual([...(await session.run(toyFeeds())).y.data], TOY_Y);
});

const EMPTY = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
// (import "env" "memory" (memory N))
const importing = (name, pages) =>
  new Uint8Array([...EMPTY, 2, 9 + name.length, 1, 3, ...Buffer.from("env"), name.length, ...Buffer.from(name), 2, 0, pages]);

test("code that is no WebAssembly is refused", async () => {
  const files = toyWithCode(new TextEncoder().encode("not wasm at all"));
  await assert.rejects(InferenceSession.create(files), failing("engine", /^model\.simd\.wasm: this engine cannot compile it; got /));
});

test("code that imports more than memory is refused", async () => {
  await assert.rejects(InferenceSession.create(toyWithCode(EMPTY)), failing("artifact", /wrong imports; expected env\.memory and env\.sync only/));
  const other = toyWithCode(importing("network", 1));
  await assert.rejects(InferenceSession.create(other), failing("artifact", /wrong imports; .*env\.network/));
});

test("code that needs more memory than the manifest says is refused", async () => {
  await assert.rejects(
    InferenceSession.create(toyWithCode(importing("memory", 100))),
    failing("artifact", /^model\.simd\.wasm: cannot be instantiated; got .*100/),
  );
});

test("code without the entry is refused, as is one with other parameters", async () => {
  const files = toyWithCode(importing("memory", 1));
  await assert.rejects(InferenceSession.create(files), failing("artifact", /no such function; expected gossamer_entry_toy; got \[\]/));
  const more = changedToy((manifest) => void manifest.outputs.pop());
  await assert.rejects(InferenceSession.create(more), failing("artifact", /wrong number of parameters; expected 8; got 9/));
});

test("a heap base inside the code's own data is refused", async () => {
  const files = changedToy((manifest) => manifest.code.forEach((code) => (code.heap_base = 65536)));
  await assert.rejects(InferenceSession.create(files), failing("artifact", /heap_base lies inside the code's own data/));
});

test("embedded weights that the code does not have are refused", async () => {
  const files = changedToy((manifest) => void (manifest.weights.file = null));
  await assert.rejects(InferenceSession.create(files), failing("artifact", /gossamer_weights: wrong address; .*got undefined$/));
  const beyond = changedToy((manifest) => void (manifest.weights.bytes = 2 ** 20), "embedded");
  await assert.rejects(InferenceSession.create(beyond), failing("artifact", /gossamer_weights: wrong address/));
});
