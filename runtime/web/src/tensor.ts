import { GossamerError, show } from "./errors.js";

/** The array that holds each element type; float16 is raw bits, bool is 0 or 1. */
export interface DataTypeMap {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  int8: Int8Array;
  int16: Int16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  uint8: Uint8Array;
  uint16: Uint16Array;
  uint32: Uint32Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
}
export type DataType = keyof DataTypeMap;
export type TypedArray = DataTypeMap[DataType];

interface ArrayType {
  readonly name: string;
  readonly BYTES_PER_ELEMENT: number;
  new (data: never): TypedArray;
}

const ARRAYS: ReadonlyMap<string, ArrayType> = new Map<string, ArrayType>([
  ["float32", Float32Array],
  ["float64", Float64Array],
  ["int8", Int8Array],
  ["int16", Int16Array],
  ["int32", Int32Array],
  ["int64", BigInt64Array],
  ["uint8", Uint8Array],
  ["uint16", Uint16Array],
  ["uint32", Uint32Array],
  ["uint64", BigUint64Array],
  ["float16", Uint16Array],
  ["bool", Uint8Array],
]);

/** Names of the element types, for messages. */
export const TYPE_NAMES: string = [...ARRAYS.keys()].join(", ");

export function isDataType(type: unknown): type is DataType {
  return typeof type === "string" && ARRAYS.has(type);
}

export function bytesPerElement(type: DataType): number {
  return ARRAYS.get(type)!.BYTES_PER_ELEMENT;
}

/** The name of the array class for `type`. */
export function arrayName(type: DataType): string {
  return ARRAYS.get(type)!.name;
}

/** A view of `buffer` (or a copy of numbers) as the array class of `type`. */
export function arrayOf<T extends DataType>(type: T, data: ArrayBuffer | readonly unknown[]): DataTypeMap[T] {
  return new (ARRAYS.get(type)!)(data as never) as DataTypeMap[T];
}

/** The class name of a typed array, also of one from another window or test realm; else undefined. */
export function classOf(data: unknown): string | undefined {
  return ArrayBuffer.isView(data) ? (data as unknown as TypedArray)[Symbol.toStringTag] : undefined;
}

/** The product of `dims`, or NaN when they are not sizes. */
export function sizeOf(dims: unknown): number {
  if (!Array.isArray(dims)) return NaN;
  return dims.reduce((size: number, dim) => (Number.isSafeInteger(dim) && dim >= 0 ? size * dim : NaN), 1);
}

/**
 * A typed array with a type and dimensions, row-major.
 *
 * `new Tensor("float32", data, [1, 3, 224, 224])`, or `new Tensor(data, dims)` where the type follows from the
 * array (a Uint8Array is then "uint8"). Without `dims` the tensor has one dimension. Plain arrays are copied into the
 * array class of the type; typed arrays are kept, not copied.
 */
export class Tensor<T extends DataType = DataType> {
  readonly type: T;
  readonly data: DataTypeMap[T];
  readonly dims: readonly number[];
  readonly size: number;

  constructor(type: T, data: DataTypeMap[T] | readonly (number | bigint | boolean)[], dims?: readonly number[]);
  constructor(data: DataTypeMap[T], dims?: readonly number[]);
  constructor(first: unknown, second?: unknown, third?: unknown) {
    const typed = typeof first !== "string";
    const type = typed ? typeOf(first) : first;
    const data = typed ? first : second;
    if (!isDataType(type)) throw new GossamerError("feed", "tensor", "unknown type", TYPE_NAMES, type);
    this.type = type as T;
    this.data = (Array.isArray(data) ? converted(type, data) : data) as DataTypeMap[T];
    if (classOf(this.data) !== arrayName(type)) {
      throw new GossamerError("feed", `${type} tensor`, "wrong data", `${arrayName(type)} or an array`, kindOf(data));
    }
    const dims = (typed ? second : third) ?? [this.data.length];
    this.size = sizeOf(dims);
    if (this.size !== this.data.length) {
      const expected = Number.isNaN(this.size) ? "dims of whole numbers" : this.size;
      throw new GossamerError("feed", "tensor", `wrong data length for dims ${show(dims)}`, expected, this.data.length);
    }
    this.dims = Object.freeze([...(dims as number[])]);
  }
}

function typeOf(data: unknown): string | undefined {
  const name = classOf(data);
  for (const [type, array] of ARRAYS) if (array.name === name) return type;
  throw new GossamerError("feed", "tensor", "cannot tell its type", "a typed array", kindOf(data));
}

function converted(type: DataType, data: readonly unknown[]): TypedArray {
  try {
    return arrayOf(type, data);
  } catch (error) {
    throw new GossamerError("feed", `${type} tensor`, "cannot convert the array", arrayName(type), error);
  }
}

/** What a value is, for messages: the name of its class. */
export function kindOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}
