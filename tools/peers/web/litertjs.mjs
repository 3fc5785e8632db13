// LiteRT.js on its WebAssembly CPU path.

function described({ name, dtype, shape }) {
  return { name, type: dtype, shape: [...shape] };
}

export async function open({ model, library, threads }, files) {
  const { loadLiteRt, loadAndCompile, Tensor } = await import(library);
  await loadLiteRt(new URL("../wasm/", new URL(library, location.href)).href, { threads: threads > 1 });
  const options = { accelerator: "wasm", cpuOptions: { numThreads: threads } };
  const compiled = await loadAndCompile(await files.read(model), options);
  const outputs = compiled.getOutputDetails();
  async function run(feeds) {
    const results = await compiled.run(feeds);
    return Object.fromEntries(outputs.map(({ name, dtype, shape }) => {
      const data = results[name].toTypedArray();
      results[name].delete();
      return [name, { type: dtype, dims: shape, data }];
    }));
  }
  return {
    run,
    inputs: compiled.getInputDetails().map(described),
    outputs: outputs.map(({ name }) => name),
    tensor: (type, data, dims) => new Tensor(data, dims),
  };
}
