import { GossamerError, show } from "./errors.js";
import type { TensorSpec } from "./manifest.js";
import type { Fed } from "./sizes.js";
import { arrayName, bytesPerElement, classOf, isDataType, kindOf, sizeOf, type Tensor } from "./tensor.js";

/** Inputs by name. */
export type Feeds = Readonly<Record<string, Tensor>>;

function refuse(name: string, what: string, expected: string | number, got: unknown): never {
  throw new GossamerError("feed", `input ${show(name)}`, what, expected, got);
}

function checkFeed(spec: TensorSpec, tensor: Partial<Tensor> | null): Fed {
  const { name, type, dims } = spec;
  if (typeof tensor !== "object" || tensor === null) refuse(name, "not a Tensor", "a Tensor", kindOf(tensor));
  if (!isDataType(tensor.type) || tensor.type !== type) refuse(name, "wrong type", type, tensor.type);
  const given = tensor.dims;
  const fits = (dim: number | string, i: number): boolean => typeof dim === "string" || dim === given![i];
  if (!Array.isArray(given) || given.length !== dims.length || !dims.every(fits) || Number.isNaN(sizeOf(given))) {
    refuse(name, "wrong dims", show(dims), given);
  }
  const data = tensor.data;
  if (classOf(data) !== arrayName(type)) refuse(name, "wrong data", arrayName(type), kindOf(data));
  const bytes = sizeOf(given) * bytesPerElement(type);
  if (data!.byteLength !== bytes) refuse(name, "wrong data length", `${bytes} bytes`, data!.byteLength);
  return { data: data!, dims: given as readonly number[] };
}

/** The data and dims of every input in the order of `specs`; a wrong, missing or unknown one is a GossamerError. */
export function checkFeeds(specs: readonly TensorSpec[], feeds: Feeds): Fed[] {
  if (typeof feeds !== "object" || feeds === null) {
    throw new GossamerError("feed", "feeds", "wrong value", "{name: Tensor}", kindOf(feeds));
  }
  const names = specs.map((spec) => spec.name);
  const unknown = Object.keys(feeds).find((name) => !names.includes(name));
  if (unknown !== undefined) refuse(unknown, "no such input", names.map(show).join(", "), unknown);
  return specs.map((spec) => {
    if (!Object.hasOwn(feeds, spec.name)) refuse(spec.name, "missing", names.map(show).join(", "), Object.keys(feeds));
    return checkFeed(spec, feeds[spec.name]!);
  });
}
