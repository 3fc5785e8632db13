// Run a wasm artifact once or more:
// node run.mjs ARTIFACT INPUTS OUTPUTS [--repeat N] [--variant relaxed|simd] [--threads N] [--profile]
//
// INPUTS holds each input's raw little-endian data in the file `<index>.bin`, and the shapes of all in `shapes.json`, which
// may be left out where the model fixes them; OUTPUTS receives the outputs of the first
// run likewise. One line of JSON on stdout: {variant, threads, verified, load_ms, first_ms, ms, outputs}, where `ms` is the time
// of each run, the first included; or {error, code} with exit code 1. With --profile also `kernels`: for each run the
// milliseconds from the start of the first kernel to the end of each.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { GossamerError, InferenceSession, Tensor } from "../dist/gossamer.js";

const ARRAYS = {
  float16: Uint16Array, float32: Float32Array, float64: Float64Array, bool: Uint8Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
};

/** The shapes that inputs are given, by index; none where there is no such file. */
async function readShapes(path) {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch {
    return [];
  }
}

async function readFeed({ name, type }, shape, path) {
  const bytes = new Uint8Array(await readFile(path)); // a copy of its own: aligned for every type
  const Array = ARRAYS[type];
  const expected = shape.reduce((size, dim) => size * dim, Array.BYTES_PER_ELEMENT);
  if (bytes.length !== expected) {
    const what = `wrong number of bytes for ${type} ${JSON.stringify(shape)}`;
    throw new GossamerError("feed", `input ${JSON.stringify(name)}`, what, expected, bytes.length);
  }
  return [name, new Tensor(type, new Array(bytes.buffer), shape)];
}

async function timed(work) {
  const start = performance.now();
  const result = await work();
  return [result, performance.now() - start];
}

async function main(artifact, inputs, outputs, { repeat, variant, threads, profile }) {
  const moments = [];
  const onKernel = profile ? () => moments.push(performance.now()) : undefined;
  const [session, load_ms] = await timed(() => InferenceSession.create(artifact, { variant, threads, onKernel }));
  const shapes = await readShapes(join(inputs, "shapes.json"));
  const named = session.inputMetadata.map((spec, i) => {
    const open = spec.shape.some((size) => typeof size !== "number");
    return readFeed(spec, open ? shapes[i] : spec.shape, join(inputs, `${i}.bin`));
  });
  const feeds = Object.fromEntries(await Promise.all(named));
  const kernels = [];
  const run = async () => {
    const found = await timed(() => session.run(feeds));
    const [start, ...ends] = moments.splice(0);
    if (profile) kernels.push(ends.map((end) => end - start));
    return found;
  };
  const [results, first_ms] = await run();
  const ms = [first_ms];
  while (ms.length < repeat) ms.push((await run())[1]);
  const described = session.outputMetadata.map(async ({ name, type }, i) => {
    await writeFile(join(outputs, `${i}.bin`), results[name].data);
    return { name, type, shape: results[name].dims };
  });
  const { variant: build, threads: used, verified } = session;
  await session.release();
  const times = { load_ms, first_ms, ms, ...(profile ? { kernels } : {}) };
  return { variant: build, threads: used, verified, ...times, outputs: await Promise.all(described) };
}

function options() {
  const number = { type: "string", default: "1" };
  const spec = { repeat: number, threads: number, variant: { type: "string" }, profile: { type: "boolean" } };
  const { values, positionals } = parseArgs({ allowPositionals: true, options: spec });
  const [repeat, threads] = [Number(values.repeat), Number(values.threads)];
  if (positionals.length !== 3 || !Number.isSafeInteger(repeat) || repeat < 1) {
    throw new Error("usage: node run.mjs ARTIFACT INPUTS OUTPUTS [--repeat N] [--variant NAME] [--threads N] [--profile]");
  }
  return [...positionals, { ...values, repeat, threads }];
}

try {
  console.log(JSON.stringify(await main(...options())));
} catch (error) {
  console.log(JSON.stringify({ error: error.message, code: error instanceof GossamerError ? error.code : "run" }));
  process.exitCode = 1;
}
