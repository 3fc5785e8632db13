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
/** Names of the element types, for messages. */
export declare const TYPE_NAMES: string;
export declare function isDataType(type: unknown): type is DataType;
export declare function bytesPerElement(type: DataType): number;
/** The name of the array class for `type`. */
export declare function arrayName(type: DataType): string;
/** A view of `buffer` (or a copy of numbers) as the array class of `type`. */
export declare function arrayOf<T extends DataType>(type: T, data: ArrayBuffer | readonly unknown[]): DataTypeMap[T];
/** The class name of a typed array, also of one from another window or test realm; else undefined. */
export declare function classOf(data: unknown): string | undefined;
/** The product of `dims`, or NaN when they are not sizes. */
export declare function sizeOf(dims: unknown): number;
/**
 * A typed array with a type and dimensions, row-major.
 *
 * `new Tensor("float32", data, [1, 3, 224, 224])`, or `new Tensor(data, dims)` where the type follows from the
 * array (a Uint8Array is then "uint8"). Without `dims` the tensor has one dimension. Plain arrays are copied into the
 * array class of the type; typed arrays are kept, not copied.
 */
export declare class Tensor<T extends DataType = DataType> {
    readonly type: T;
    readonly data: DataTypeMap[T];
    readonly dims: readonly number[];
    readonly size: number;
    constructor(type: T, data: DataTypeMap[T] | readonly (number | bigint | boolean)[], dims?: readonly number[]);
    constructor(data: DataTypeMap[T], dims?: readonly number[]);
}
/** What a value is, for messages: the name of its class. */
export declare function kindOf(value: unknown): string;
