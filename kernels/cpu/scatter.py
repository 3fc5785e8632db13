"""Writes updates into a tensor at places that data names, in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from ..dims import Size, larger
from .arithmetic import maximum, minimum
from .builder import Builder, Pointer, constant, int32, lanes_of, scalar_type, vector_type
from .element_types import to_memory
from .elementwise import vectors
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .tensor import Tensor

__all__ = ["SCATTER_OPERATIONS", "Scatter", "safe_index"]

SCATTER_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": maximum,
    "min": minimum,
}


def safe_index(value: Any, extent: Size) -> Any:
    """An index from data: negative ones count from the end, all end up inside 0 … extent - 1.

    It is bounded in its own type first, so that a huge one does not wrap into another place. Written with
    `min` and `max` nodes: TVM writes out named values again, so comparisons would multiply the code.
    """
    last = larger(0, extent - 1)
    if scalar_type(value) == "int64":
        low, high = (_wide(n, lanes_of(value)) for n in (-extent, last))
        value = tir.min(tir.max(value, low), high)
    at = tir.Cast(vector_type("int32", lanes_of(value)), value)
    at = at + tir.Select(at < 0, int32(extent), int32(0))
    return tir.min(tir.max(at, int32(0)), int32(last))


def _wide(size: Size, lanes: int) -> Any:
    if isinstance(size, int):
        return constant(size, "int64", lanes)
    value = tir.Cast("int64", int32(size))
    return value if lanes == 1 else tir.Broadcast(value, lanes)


@dataclass(eq=False)
class Scatter(Kernel):
    """`out`, already holding the data, gets `updates` at `indices`; one thread keeps their order.

    With `axis` None the last axis of `indices` holds coordinates of the first axes (ScatterND), else each
    index is a place along `axis` (ScatterElements).
    """

    indices: Lazy
    updates: Lazy
    out: Tensor
    axis: int | None
    operation: str
    family = "scatter"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.indices, self.updates)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        values = (self.indices, self.updates)
        shapes = tuple(v.shape for v in values)
        keys = tuple(v.key for v in values)
        shared = sharing(self.reads(), *values)
        return ("scatter", self.axis, self.operation, shapes, keys, Leaf(self.out).key, shared)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        scope = Scope(b, pointers)
        with ExitStack() as stack:
            stack.enter_context(b.when(b.thread == 0))
            if self.axis is None:
                self._slices(b, scope, stack)
            else:
                self._elements(b, scope, stack)

    def _elements(self, b: Builder, scope: Scope, stack: ExitStack) -> None:
        index = [stack.enter_context(b.loop(n)) for n in self.updates.shape]
        axis = self.axis or 0
        at = b.let(safe_index(self.indices.at(scope, index), self.out.shape[axis]))
        self._write(b, scope, index, [*index[:axis], at, *index[axis + 1 :]])

    def _slices(self, b: Builder, scope: Scope, stack: ExitStack) -> None:
        depth = self.indices.shape[-1]
        outer = [stack.enter_context(b.loop(n)) for n in self.indices.shape[:-1]]
        place = [
            safe_index(self.indices.at(scope, [*outer, int32(k)]), self.out.shape[k]) for k in range(depth)
        ]
        rest = self.out.shape[depth:]
        if not rest:
            self._write(b, scope, outer, place)
            return
        middle = [stack.enter_context(b.loop(n)) for n in rest[:-1]]
        vectors(b, rest[-1], lambda i: self._write(b, scope, [*outer, *middle, i], [*place, *middle, i]))

    def _write(self, b: Builder, scope: Scope, index: list[Any], place: list[Any]) -> None:
        at = b.simplify(Leaf(self.out).offset(place))
        value = self.updates.at(scope, index)
        if self.operation != "none":
            value = SCATTER_OPERATIONS[self.operation](scope.load(self.out, at), value)
        b.store(scope.pointers[id(self.out)], at, to_memory(b, value, self.out.dtype))
