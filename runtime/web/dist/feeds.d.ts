import type { TensorSpec } from "./manifest.js";
import type { Fed } from "./sizes.js";
import { type Tensor } from "./tensor.js";
/** Inputs by name. */
export type Feeds = Readonly<Record<string, Tensor>>;
/** The data and dims of every input in the order of `specs`; a wrong, missing or unknown one is a GossamerError. */
export declare function checkFeeds(specs: readonly TensorSpec[], feeds: Feeds): Fed[];
