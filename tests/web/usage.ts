// Compiled by test_build.py, never run: what strict TypeScript must take, and refuse.
import { InferenceSession, Tensor, GossamerError, type Variant } from "gossamer-web";

const session: InferenceSession = await InferenceSession.create("out/", { variant: "simd" });
const fromBytes = await InferenceSession.create({ "manifest.json": new Uint8Array(1), "weights.bin": new ArrayBuffer(1) });
const x = new Tensor("float32", new Float32Array(6), [2, 3]);
const values: Float32Array = x.data;
const counts: BigInt64Array = new Tensor("int64", [1n]).data;
const outputs = await fromBytes.run({ x, n: new Tensor(new Uint8Array(2)) }, session.outputNames);
const dims: readonly number[] = outputs["y"]!.dims;
const variant: Variant = session.variant;
// @ts-expect-error: a wrong array for the type
new Tensor("float32", new Float64Array(6));
// @ts-expect-error: no such variant
InferenceSession.create("out/", { variant: "fast" });
// @ts-expect-error: names cannot be changed
session.inputNames.push("z");
if (values && counts && dims && variant) throw new GossamerError("feed", "x", "wrong");
export {};
