import type { TensorSpec } from "./manifest.js";
import { type Tensor, type TypedArray } from "./tensor.js";
/** Inputs by name. */
export type Feeds = Readonly<Record<string, Tensor>>;
/** The data of every input in the order of `specs`; a wrong, missing or unknown one is a GossamerError. */
export declare function checkFeeds(specs: readonly TensorSpec[], feeds: Feeds): TypedArray[];
