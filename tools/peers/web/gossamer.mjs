// Our own artifacts, by the runtime that ships with them.

export async function open({ model, library }) {
  const { InferenceSession, Tensor } = await import(library);
  const session = await InferenceSession.create(model);
  return { run: (feeds) => session.run(feeds), tensor: (type, data, dims) => new Tensor(type, data, dims) };
}
