// Our own artifacts, by the runtime that ships with them.

export async function open({ model, library, threads }) {
  const { InferenceSession, Tensor } = await import(library);
  const session = await InferenceSession.create(model, { threads });
  if (session.threads !== threads) throw new Error(`threads: ${threads} wanted, ${session.threads} given`);
  return { run: (feeds) => session.run(feeds), tensor: (type, data, dims) => new Tensor(type, data, dims) };
}
