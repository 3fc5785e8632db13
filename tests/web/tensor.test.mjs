import assert from "node:assert/strict";
import { test } from "node:test";
import { runInNewContext } from "node:vm";

import { GossamerError, Tensor } from "../../runtime/web/dist/gossamer.js";
import { failing } from "./support.mjs";

const TYPES = [
  ["float32", Float32Array], ["float64", Float64Array], ["float16", Uint16Array], ["bool", Uint8Array],
  ["int8", Int8Array], ["int16", Int16Array], ["int32", Int32Array], ["int64", BigInt64Array],
  ["uint8", Uint8Array], ["uint16", Uint16Array], ["uint32", Uint32Array], ["uint64", BigUint64Array],
];

for (const [type, Array] of TYPES) {
  test(`${type} tensors hold a ${Array.name}, without a copy`, () => {
    const data = new Array(6);
    const tensor = new Tensor(type, data, [2, 3]);
    assert.equal(tensor.data, data);
    assert.equal(tensor.type, type);
    assert.deepEqual(tensor.dims, [2, 3]);
    assert.equal(tensor.size, 6);
  });
}

test("plain arrays are converted", () => {
  assert.deepEqual(new Tensor("float32", [1, 2.5]).data, new Float32Array([1, 2.5]));
  assert.deepEqual(new Tensor("int64", [1n, -2n]).data, new BigInt64Array([1n, -2n]));
  assert.deepEqual(new Tensor("bool", [true, false]).data, new Uint8Array([1, 0]));
});

test("the type follows from a typed array", () => {
  assert.equal(new Tensor(new Float64Array(2)).type, "float64");
  assert.equal(new Tensor(new BigUint64Array(2), [2]).type, "uint64");
  assert.equal(new Tensor(new Uint8Array(2)).type, "uint8");
  assert.equal(new Tensor(new Uint16Array(2)).type, "uint16");
});

test("dims default to one dimension; scalars and empty tensors are tensors", () => {
  assert.deepEqual(new Tensor("int8", [1, 2, 3]).dims, [3]);
  assert.equal(new Tensor("float32", [4], []).size, 1);
  assert.equal(new Tensor("float32", [], [3, 0, 2]).size, 0);
});

test("an array of another realm is an array", () => {
  const data = runInNewContext("new Float32Array([1, 2])");
  assert.equal(data instanceof Float32Array, false);
  assert.equal(new Tensor("float32", data).data, data);
});

test("the caller's dims may change later", () => {
  const dims = [2, 1];
  const tensor = new Tensor("int8", [1, 2], dims);
  dims.push(7);
  assert.deepEqual(tensor.dims, [2, 1]);
});

const WRONG = [
  ["an unknown type", () => new Tensor("complex64", [1]), /^tensor: unknown type; expected float32, .*; got "complex64"$/],
  ["a prototype's name", () => new Tensor("constructor", [1]), /unknown type/],
  ["a wrong array", () => new Tensor("float32", new Float64Array(1)), /^float32 tensor: wrong data; expected Float32Array or an array; got "Float64Array"$/],
  ["a DataView", () => new Tensor("uint8", new DataView(new ArrayBuffer(1))), /got "DataView"/],
  ["no data", () => new Tensor("uint8"), /^uint8 tensor: wrong data; .*got "Undefined"$/],
  ["numbers for int64", () => new Tensor("int64", [1, 2]), /^int64 tensor: cannot convert the array; expected BigInt64Array; got /],
  ["a wrong length", () => new Tensor("float32", [1, 2, 3], [2, 2]), /wrong data length for dims \[2,2\]; expected 4; got 3$/],
  ["negative dims", () => new Tensor("float32", [1, 2], [-1, -2]), /expected dims of whole numbers/],
  ["fractional dims", () => new Tensor("float32", [1, 2], [4, 0.5]), /expected dims of whole numbers/],
  ["dims that are no list", () => new Tensor("float32", [1, 2], 2), /wrong data length for dims 2; expected dims of whole numbers/],
  ["an object to guess from", () => new Tensor({}), /^tensor: cannot tell its type; expected a typed array; got "Object"$/],
];

for (const [what, make, text] of WRONG) {
  test(`${what} is refused`, () => assert.throws(make, failing("feed", text)));
}

test("errors carry their parts", () => {
  const error = new GossamerError("feed", "input", "bad", "one\nline", { a: 1 }, "do this");
  assert.ok(error instanceof Error);
  assert.equal(error.message, 'input: bad; expected one line; got {"a":1}; do this');
  assert.deepEqual([error.code, error.where, error.got], ["feed", "input", '{"a":1}']);
});

test("errors show any value in a short line", () => {
  const cycle = {};
  cycle.self = cycle;
  for (const value of [cycle, 1n, Symbol("s"), undefined, null, () => 1, "x".repeat(1e6), [2n]]) {
    const { message } = new GossamerError("feed", "here", "bad", undefined, value);
    assert.ok(message.length < 160 && message.startsWith("here: bad; got "), message);
  }
});
