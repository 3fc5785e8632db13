// Answers the requests of tools/remote.py in Node and in a page; `files` reads and writes by address.

const FEWEST = 3; // timed runs in a turn, however long one takes
const ARRAYS = {
  float16: Uint16Array, float32: Float32Array, float64: Float64Array, bool: Uint8Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
};

async function turn(engine, feeds, seconds) {
  await engine.run(feeds); // refills the caches
  const times = [];
  const end = performance.now() + seconds * 1000;
  while (times.length < FEWEST || performance.now() < end) {
    const start = performance.now();
    await engine.run(feeds);
    times.push((performance.now() - start) * 1e6);
  }
  return { times };
}

async function compute(engine, feeds, wanted, files) {
  const results = await engine.run(feeds);
  const outputs = [];
  for (const { name, address } of wanted) {
    const { type, dims, data } = results[name];
    await files.write(address, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    outputs.push({ type, shape: [...dims] });
  }
  return { outputs };
}

async function feed(engine, wanted, files) {
  const feeds = {};
  for (const { name, type, shape, address } of wanted) {
    const bytes = await files.read(address);
    feeds[name] = engine.tensor(type, new ARRAYS[type](bytes.buffer, 0), shape);
  }
  return feeds;
}

/** A function that answers requests, one after another. */
export function answering(files) {
  let engine, feeds;
  return async (request) => {
    try {
      if (request.open) {
        const { open } = await import(`./${request.open.engine}.mjs`);
        engine = await open(request.open, files);
        return { inputs: engine.inputs, outputs: engine.outputs };
      }
      if (request.feeds) feeds = await feed(engine, request.feeds, files);
      if (request.turn) return await turn(engine, feeds, request.turn);
      if (request.compute) return await compute(engine, feeds, request.compute, files);
      return {};
    } catch (error) {
      return { error: String(error?.message ?? error) };
    }
  };
}
