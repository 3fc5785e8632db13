/** Run models compiled by gossamer for WebAssembly, as users of onnxruntime-web know it. */
export { GossamerError } from "./errors.js";
export type { ErrorCode } from "./errors.js";
export type { Feeds } from "./feeds.js";
export { InferenceSession } from "./session.js";
export type { SessionOptions, ValueMetadata } from "./session.js";
export type { Files } from "./source.js";
export { Tensor } from "./tensor.js";
export type { DataType, DataTypeMap, TypedArray } from "./tensor.js";
export { hasRelaxedSimd } from "./variant.js";
export type { Variant } from "./variant.js";
