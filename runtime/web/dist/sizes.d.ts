import { GossamerError } from "./errors.js";
import { type Json, type TensorSpec } from "./manifest.js";
import type { TypedArray } from "./tensor.js";
/** A size that inputs bring: its place in the table, and what it may be. */
export interface SizeSymbol {
    readonly name: string;
    readonly slot: number;
    readonly least: number;
    readonly most: number;
}
/** `count` numbers at the head of the arena, which the exported function `name` checks and fills in. */
export interface Table {
    readonly name: string;
    readonly count: number;
    readonly symbols: readonly SizeSymbol[];
    readonly guards: readonly string[];
}
/** The field `slots`, which is there where a size is a formula: one for each, -1 for numbers. */
export declare function readSlots(json: Json, dims: readonly (number | string)[], where: string): readonly number[];
/** The field `table`. */
export declare function readTable(json: Json): Table;
/** Whether slots lie in the table, and every open size of an input is a symbol. */
export declare function checkTable(table: Table | null, inputs: readonly TensorSpec[], outputs: readonly TensorSpec[]): void;
/** Symbols by their place in the table; a GossamerError where shapes of inputs do not fit each other. */
export declare function symbolValues(table: Table, inputs: readonly TensorSpec[], shapes: readonly (readonly number[])[]): ReadonlyMap<number, number>;
/** The dims of a tensor where the table holds these numbers. */
export declare function dimsOf(spec: TensorSpec, numbers: ArrayLike<bigint>): readonly number[];
/** Dims of inputs as they were fed, for messages and for the table. */
export type Fed = {
    readonly data: TypedArray;
    readonly dims: readonly number[];
};
/** The error where the code's function refused the sizes: number 0 of the table is -(k + 1) for guard k. */
export declare function refusedSizes(table: Table, first: number): GossamerError;
