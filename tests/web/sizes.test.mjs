// Models whose sizes a run brings: any size, larger ones than before, and what does not fit.

import assert from "node:assert/strict";
import { test } from "node:test";

import { InferenceSession, Tensor } from "../../runtime/web/dist/gossamer.js";
import { changedToy, failing, readToy } from "./support.mjs";

const open = (options) => InferenceSession.create(readToy("open"), options);
const feeds = (x, k = [3n]) => ({
  x: new Tensor("float32", x, [x.length]),
  k: new Tensor("int64", k, [k.length, 1]),
});
const ramp = (length) => Array.from({ length }, (_, i) => (i % 7) - 3);

for (const threads of [1, 3]) {
  test(`one session runs any size, with ${threads} threads`, async () => {
    const session = await open({ threads });
    assert.equal(session.threads, threads);
    for (const length of [1, 5, 300_000, 2, 1_000_000, 12]) {
      const x = ramp(length);
      const { y, z } = await session.run(feeds(x));
      const once = x.map((value) => 2 * value + 3);
      assert.deepEqual(y.dims, [2 * length]);
      assert.deepEqual([...y.data], [...once, ...once]);
      const positive = x.filter((value) => value > 0);
      assert.deepEqual(z.dims, [positive.length]);
      assert.deepEqual([...z.data], positive);
    }
    await session.release();
  });
}

test("memory grows with the sizes of a run, and stays", async () => {
  const session = await open();
  await session.run(feeds(ramp(10)));
  const small = session.memoryBytes;
  await session.run(feeds(ramp(1_000_000)));
  const large = session.memoryBytes;
  assert.ok(large > small + 12e6);
  for (let turn = 0; turn < 50; turn++) await session.run(feeds(ramp(20 + turn * 1000)));
  assert.equal(session.memoryBytes, large);
});

test("names and formulas stand for open sizes", async () => {
  const session = await open();
  assert.deepEqual(session.inputMetadata.map(({ shape }) => shape), [["n"], ["m", 1]]);
  assert.deepEqual(session.outputMetadata.map(({ shape }) => shape), [["2*n"], ["z_size"]]);
});

for (const [what, given, text] of [
  ["of another rank", { ...feeds([1, 2]), x: new Tensor("float32", [1, 2], [1, 2]) }, /"x": wrong dims; expected \["n"\]; got \[1,2\]/],
  ["of a fixed size's other size", { ...feeds([1]), k: new Tensor("int64", [1n, 2n], [1, 2]) }, /"k": wrong dims/],
  ["that is empty", feeds([]), /"x": has a wrong size for "n"; expected 1\.\.2147483647; got 0/],
  ["beyond its bound", feeds([1], Array(9).fill(1n)), /"k": has a wrong size for "m"; expected 1\.\.8; got 9/],
  ["that a guard refuses", feeds(ramp(13)), /the model cannot take these sizes: n must not be 13/],
  ["that the second guard refuses", feeds([1], Array(8).fill(1n)), /m must be at most 7/],
]) {
  test(`an input ${what} is refused, and the next run is right`, async () => {
    const session = await open();
    await assert.rejects(session.run(given), failing("feed", text));
    const { y } = await session.run(feeds([4]));
    assert.deepEqual([...y.data], [11, 11]);
  });
}

test("sizes of one name must be the same", async () => {
  const files = changedToy((m) => {
    m.inputs[1] = { name: "k", dtype: "int64", shape: ["n", 1], slots: [2, -1] };
  }, "open");
  const session = await InferenceSession.create(files);
  await assert.rejects(session.run(feeds([1, 2], [1n])), failing("feed", /"k": has another size for "n"; expected 2; got 1/));
});

test("sizes beyond the engine's memory are refused", async () => {
  // Output y takes as many bytes as the arena's number says: what hostile code can claim.
  const files = changedToy((m) => {
    m.outputs[0].shape = ["n", "n", "n"];
    m.outputs[0].slots = [2, 2, 2];
  }, "open");
  const session = await InferenceSession.create(files);
  await assert.rejects(session.run(feeds(ramp(3000))), failing("feed", /inputs: needs too much memory; expected at most/));
});

const HOSTILE = [
  ["has no table", (m) => void delete m.table, /table is missing/],
  ["has a table of another version", (m) => void (m.version = 2), /table is missing/],
  ["has a table without a function", (m) => void delete m.table.function, /table\.function is missing/],
  ["calls any function", (m) => void (m.table.function = "gossamer_entry_open"), /table\.function is wrong/],
  ["has a table that is too small", (m) => void (m.table.count = 5), /table\.count is wrong; expected more than 5; got 5/],
  ["has a table without end", (m) => void (m.table.count = 2 ** 40), /table\.count is wrong/],
  ["has a formula without a place", (m) => void delete m.inputs[0].slots, /inputs\[0\]\.slots is missing/],
  ["has a place before the table", (m) => void (m.inputs[0].slots = [-2]), /inputs\[0\]\.slots is wrong/],
  ["has the arena's place", (m) => void (m.inputs[0].slots = [0]), /inputs\[0\]\.slots is wrong/],
  ["has a place for a number", (m) => void (m.inputs[1].slots = [3, 2]), /inputs\[1\]\.slots is wrong/],
  ["has an input of another symbol", (m) => void (m.inputs[0].shape = ["m"]), /inputs\[0\]\.slots is wrong; expected the place of symbol m; got 2/],
  ["has symbols that are no list", (m) => void (m.table.symbols = {}), /table\.symbols is wrong/],
  ["has a symbol without a name", (m) => void delete m.table.symbols[0].name, /table\.symbols\[0\]\.name is missing/],
  ["has a negative bound", (m) => void (m.table.symbols[0].least = -1), /table\.symbols\[0\]\.least is wrong/],
  ["has bounds that cross", (m) => void (m.table.symbols[1].most = 0), /table\.symbols\[1\]\.most is wrong/],
  ["has a guard that is no text", (m) => void (m.table.guards[0] = 1), /table\.guards\[0\] /],
];
for (const [what, change, field] of HOSTILE) {
  test(`a manifest that ${what} is refused, naming the field`, async () => {
    const text = new RegExp(`^manifest\\.json: field ${field.source}`);
    await assert.rejects(InferenceSession.create(changedToy(change, "open")), failing("manifest", text));
  });
}

test("code without the function of sizes is refused", async () => {
  const files = changedToy((m) => void (m.table.function = "gossamer_sizes_other"), "open");
  await assert.rejects(InferenceSession.create(files), failing("artifact", /no such function; expected gossamer_sizes_other/));
});
