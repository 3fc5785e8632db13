// onnxruntime-web's WebAssembly build.

export async function open({ model, library, threads }, files) {
  const { env, InferenceSession, Tensor } = await import(library);
  env.wasm.numThreads = threads;
  env.wasm.proxy = false;
  env.logLevel = "error";
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all", intraOpNumThreads: threads };
  const session = await InferenceSession.create(await files.read(model), options);
  return { run: (feeds) => session.run(feeds), tensor: (type, data, dims) => new Tensor(type, data, dims) };
}
