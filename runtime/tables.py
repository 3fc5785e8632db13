"""Sizes that a run brings: what the manifest says of them, and checking it against inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import ArtifactError, FeedError
from .fields import Fields, check_integer, check_text, refuse
from .specs import SymbolSpec, TableSpec, TensorSpec

__all__ = ["check_table", "cut", "read_sizes", "read_slots", "read_table", "refused_sizes", "symbol_values"]

Array = np.ndarray[Any, np.dtype[Any]]
MOST_RANK = 32
MOST_SIZE = 1 << 40
MOST_NUMBERS = 1 << 20
MOST_SYMBOL = (1 << 31) - 1


def read_sizes(fields: Fields) -> tuple[int | str, ...]:
    """The field `shape`: numbers of elements, or formulas of names."""
    return fields.items("shape", _size, longest=MOST_RANK)


def _size(value: object, path: str) -> int | str:
    return check_text(path, value) if isinstance(value, str) else check_integer(path, value, 0, MOST_SIZE)


def read_slots(fields: Fields, shape: Sequence[int | str]) -> tuple[int, ...]:
    """The field `slots`, which is there where a size is a formula: one for each, -1 for numbers."""
    if all(isinstance(size, int) for size in shape):
        return ()
    slots = fields.items("slots", lambda v, path: check_integer(path, v, -1, MOST_NUMBERS), longest=MOST_RANK)
    fit = [
        slot >= 2 if isinstance(size, str) else slot == -1 for size, slot in zip(shape, slots, strict=False)
    ]
    if len(slots) != len(shape) or not all(fit):
        expected = "a place for each formula in shape, -1 for each number"
        raise refuse(fields.path("slots"), "is wrong", expected, list(slots))
    return slots


def read_table(top: Fields) -> TableSpec:
    """The field `table`."""
    fields = Fields(top.raw("table"), "table")
    return TableSpec(
        function=fields.text("function", "gossamer_sizes_[A-Za-z_][A-Za-z0-9_]{0,199}"),
        count=fields.integer("count", 2, MOST_NUMBERS),
        symbols=fields.items("symbols", _symbol),
        guards=fields.items("guards", lambda value, path: check_text(path, value)),
    )


def _symbol(value: object, path: str) -> SymbolSpec:
    fields = Fields(value, path)
    least = fields.integer("least", 0, MOST_SYMBOL)
    most = None if fields.raw("most") is None else fields.integer("most", least, MOST_SYMBOL)
    return SymbolSpec(fields.text("name"), fields.integer("slot", 2, MOST_NUMBERS), least, most)


def check_table(
    table: TableSpec | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], name: str
) -> None:
    """Whether slots lie in the table, and every size of an input is a symbol. Raises ArtifactError."""
    slots = [slot for tensor in (*inputs, *outputs) for slot in tensor.slots if slot >= 0]
    if table is None:
        if slots:
            raise refuse("table", "is missing", "one, since sizes are formulas", None)
        return
    if table.function != f"gossamer_sizes_{name}":
        raise refuse("table.function", "is wrong", f"gossamer_sizes_{name}", table.function)
    slots += [symbol.slot for symbol in table.symbols]
    if max(slots, default=0) >= table.count:
        raise refuse("table.count", "is wrong", f"more than {max(slots)}", table.count)
    known = {symbol.slot: symbol.name for symbol in table.symbols}
    for i, tensor in enumerate(inputs):
        for size, slot in zip(tensor.shape, tensor.slots, strict=False):
            if slot >= 0 and known.get(slot) != size:
                raise refuse(f"inputs[{i}].slots", "is wrong", f"the place of symbol {size}", slot)


def symbol_values(
    table: TableSpec, inputs: Sequence[TensorSpec], shapes: Sequence[Sequence[int]]
) -> dict[int, int]:
    """Symbols by their place in the table. Raises FeedError where shapes of inputs do not fit each other."""
    symbols = {symbol.slot: symbol for symbol in table.symbols}
    values: dict[int, int] = {}
    for tensor, shape in zip(inputs, shapes, strict=True):
        for slot, size in zip(tensor.slots, shape, strict=False):
            if slot < 0:
                continue
            where, symbol = f"feed {tensor.name!r}", symbols[slot]
            if values.setdefault(slot, size) != size:
                raise FeedError(
                    f"has another size for {symbol.name!r}", where=where, expected=values[slot], got=size
                )
            most = MOST_SYMBOL if symbol.most is None else symbol.most
            if not symbol.least <= size <= most:
                expected = f"{symbol.least}..{most}"
                raise FeedError(
                    f"has a wrong size for {symbol.name!r}", where=where, expected=expected, got=size
                )
    return values


def cut(array: Array, shape: tuple[int, ...]) -> Array:
    """The first elements of an array that was made for the most there can be, as an array of `shape`."""
    if array.shape == shape:
        return array
    return array.reshape(-1)[: math.prod(shape)].reshape(shape).copy()


def refused_sizes(table: TableSpec, number: int) -> FeedError | ArtifactError:
    """The error for a negative number 0 of the table."""
    guard = -1 - number
    if not 0 <= guard < len(table.guards):
        return ArtifactError("the code refuses sizes for an unknown reason", got=number)
    return FeedError(f"the sizes do not fit the model: {table.guards[guard]}")
