// Mutates an artifact for WebAssembly, and has the JavaScript runtime open and run each mutant.
//
//     node artifact_driver.mjs GOSSAMER.JS ARTIFACT COUNT SEED
//
// Prints how many were refused and how many ran as the sound one; ends with status 1 at the first that did neither.

import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [runtime, folder, count, seed] = process.argv.slice(2);
const { GossamerError, InferenceSession, Tensor } = await import(pathToFileURL(resolve(runtime)));
const ARRAYS = {
  float16: Uint16Array, float32: Float32Array, float64: Float64Array, bool: Uint8Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
};
const VALUES = [null, true, 0, -1, 1, 0.5, 2 ** 31, 2 ** 53, 1e300, "", "x", "../x", "/etc/passwd", [], {}, "__proto__"];

let state = BigInt(seed) * 2654435761n + 88172645463325252n;
function draw(below) { // xorshift64
  for (const by of [13n, -7n, 17n]) state ^= by > 0n ? BigInt.asUintN(64, state << by) : state >> -by;
  return Number(state % BigInt(below));
}
const pick = (list) => list[draw(list.length)];

function* places(value) {
  if (typeof value !== "object" || value === null) return;
  for (const key of Object.keys(value)) {
    yield [value, key];
    yield* places(value[key]);
  }
}

function changed(json) {
  const all = [...places(json)];
  if (all.length === 0) return json;
  const [holder, key] = pick(all);
  const action = draw(5);
  if (action === 0) Array.isArray(holder) ? holder.splice(Number(key), 1) : delete holder[key];
  else if (action === 1) holder[key] = pick(VALUES);
  else if (action === 2) holder[key] = structuredClone(((other) => other[0][other[1]])(pick(all)));
  else if (action === 3 && typeof holder[key] === "number") holder[key] += pick([-64, -1, 1, 64, holder[key]]);
  else holder[key] = Array.isArray(holder[key]) ? [...holder[key], ...holder[key]] : [holder[key]];
  return json;
}

function damaged(bytes) {
  const copy = bytes.slice();
  const at = draw(copy.length || 1);
  const action = draw(3);
  if (action === 0) return copy.subarray(0, at);
  if (action === 1) copy[at] ^= 1 << draw(8);
  else copy.fill(draw(256), at, at + 1 + draw(16));
  return copy;
}

const sound = Object.fromEntries(readdirSync(folder).map((name) => [name, new Uint8Array(readFileSync(join(folder, name)))]));
const manifest = new TextDecoder().decode(sound["manifest.json"]);

function mutant() {
  const files = { ...sound };
  if (draw(6) === 0) {
    const name = pick(Object.keys(files));
    files[name] = damaged(files[name]);
    return files;
  }
  let json = JSON.parse(manifest);
  for (let left = 1 + draw(3); left > 0; left--) json = changed(json);
  files["manifest.json"] = new TextEncoder().encode(JSON.stringify(json));
  return files;
}

function feedsOf(session) {
  return Object.fromEntries(session.inputMetadata.map(({ name, type, shape }) => {
    const dims = shape.map((dim) => (typeof dim === "number" ? dim : 3));
    const size = dims.reduce((product, dim) => product * dim, 1);
    const one = type.endsWith("int64") ? 1n : 1;
    return [name, new Tensor(type, new ARRAYS[type](size).fill(one), dims)];
  }));
}

async function answer(files) {
  const session = await InferenceSession.create(files, { threads: 1 });
  const outputs = await session.run(feedsOf(session));
  const found = Object.values(outputs).map(({ type, dims, data }) => [type, [...dims], [...data].map(String)]);
  await session.release();
  return JSON.stringify(found);
}

const expected = await answer(sound);
const counts = { refused: 0, right: 0 };
for (let turn = 0; turn < Number(count); turn++) {
  const files = mutant();
  const start = performance.now();
  try {
    const got = await answer(files);
    if (got !== expected) counts.other = (counts.other ?? 0) + 1; // a manifest may name fewer outputs, in another order
    else counts.right++;
  } catch (error) {
    if (!(error instanceof GossamerError) || error.message.includes("\n") || error.message.length > 2000) {
      console.log(turn, new TextDecoder().decode(files["manifest.json"]));
      throw error;
    }
    counts.refused++;
  }
  const seconds = (performance.now() - start) / 1000;
  if (seconds > 10) throw new Error(`mutant ${turn} took ${seconds} s`);
}
console.log(JSON.stringify(counts));
