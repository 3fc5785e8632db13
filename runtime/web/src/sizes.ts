import { GossamerError, show } from "./errors.js";
import { fail, list, object, text, whole, type Json, type TensorSpec } from "./manifest.js";
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

const MOST_NUMBERS = 2 ** 20;
const MOST_SYMBOL = 2 ** 31 - 1;

/** The field `slots`, which is there where a size is a formula: one for each, -1 for numbers. */
export function readSlots(json: Json, dims: readonly (number | string)[], where: string): readonly number[] {
  if (dims.every((dim) => typeof dim === "number")) return [];
  const slots = list(json["slots"], `${where}slots`, 32);
  const fit = (slot: unknown, i: number): boolean =>
    typeof dims[i] === "string" ? Number.isSafeInteger(slot) && (slot as number) >= 2 : slot === -1;
  if (slots.length === dims.length && slots.every(fit)) return slots as number[];
  fail(`${where}slots`, "a place for each formula in shape, -1 for each number", slots);
}

/** The field `table`. */
export function readTable(json: Json): Table {
  const pattern = /^gossamer_sizes_[A-Za-z_][A-Za-z0-9_]{0,199}$/;
  return {
    name: text(json, "function", "table.", pattern, `text matching ${pattern.source.slice(1, -1)}`),
    count: whole(json, "count", "table.", 2, MOST_NUMBERS),
    symbols: list(json["symbols"], "table.symbols", MOST_NUMBERS).map((value, i) => readSymbol(value, `table.symbols[${i}]`)),
    guards: list(json["guards"], "table.guards", MOST_NUMBERS).map((value, i) =>
      text({ value }, "value", `table.guards[${i}] `, /^[^]{0,4096}$/, "a string of at most 4096 characters"),
    ),
  };
}

function readSymbol(value: unknown, where: string): SizeSymbol {
  const json = object(value, where);
  const least = whole(json, "least", `${where}.`, 0, MOST_SYMBOL);
  return {
    name: text(json, "name", `${where}.`, /^[^]{0,4096}$/, "a name of at most 4096 characters"),
    slot: whole(json, "slot", `${where}.`, 2, MOST_NUMBERS),
    least,
    most: json["most"] === null ? MOST_SYMBOL : whole(json, "most", `${where}.`, least, MOST_SYMBOL),
  };
}

/** Whether slots lie in the table, and every open size of an input is a symbol. */
export function checkTable(table: Table | null, inputs: readonly TensorSpec[], outputs: readonly TensorSpec[]): void {
  const slots = [...inputs, ...outputs].flatMap((spec) => spec.slots);
  if (table === null) {
    if (slots.length > 0) fail("table", "", undefined);
    return;
  }
  const most = Math.max(-1, ...slots, ...table.symbols.map((symbol) => symbol.slot));
  if (most >= table.count) fail("table.count", `more than ${most}`, table.count);
  const known = new Map(table.symbols.map((symbol) => [symbol.slot, symbol.name]));
  inputs.forEach((spec, i) =>
    spec.slots.forEach((slot, axis) => {
      const size = spec.dims[axis]!;
      if (slot >= 0 && known.get(slot) !== size) fail(`inputs[${i}].slots`, `the place of symbol ${size}`, slot);
    }),
  );
}

/** Symbols by their place in the table; a GossamerError where shapes of inputs do not fit each other. */
export function symbolValues(
  table: Table,
  inputs: readonly TensorSpec[],
  shapes: readonly (readonly number[])[],
): ReadonlyMap<number, number> {
  const symbols = new Map(table.symbols.map((symbol) => [symbol.slot, symbol]));
  const values = new Map<number, number>();
  inputs.forEach((spec, i) =>
    spec.slots.forEach((slot, axis) => {
      if (slot < 0) return;
      const [size, { name, least, most }] = [shapes[i]![axis]!, symbols.get(slot)!];
      const before = values.get(slot) ?? size;
      const refuse = (what: string, expected: string | number): never => {
        throw new GossamerError("feed", `input ${show(spec.name)}`, `${what} size for ${show(name)}`, expected, size);
      };
      if (before !== size) refuse("has another", before);
      if (!(size >= least && size <= most)) refuse("has a wrong", `${least}..${most}`);
      values.set(slot, size);
    }),
  );
  return values;
}

/** The dims of a tensor where the table holds these numbers. */
export function dimsOf(spec: TensorSpec, numbers: ArrayLike<bigint>): readonly number[] {
  return spec.dims.map((dim, i) => (typeof dim === "string" ? Number(numbers[spec.slots[i]!]) : dim));
}

/** Dims of inputs as they were fed, for messages and for the table. */
export type Fed = { readonly data: TypedArray; readonly dims: readonly number[] };

/** The error where the code's function refused the sizes: number 0 of the table is -(k + 1) for guard k. */
export function refusedSizes(table: Table, first: number): GossamerError {
  const guard = table.guards[-1 - first];
  if (guard === undefined) return new GossamerError("engine", table.name, "the model's code failed", "0 or more", first);
  return new GossamerError("feed", "inputs", `the model cannot take these sizes: ${guard}`);
}
