"""The k largest or smallest along an axis, by k passes that each find the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .merging import unmerge
from .tensor import Tensor

__all__ = ["TopK"]


@dataclass(eq=False)
class TopK(Kernel):
    """`values` and `places` (int64) of the k best, best first; of equal ones the first comes first.

    NaN is never better than a number; where numbers run out, the first element is repeated.
    """

    value: Lazy
    axis: int
    largest: bool
    values: Tensor
    places: Tensor
    family = "topk"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.value)

    def writes(self) -> Sequence[Tensor]:
        return (self.values, self.places)

    @property
    def key(self) -> tuple[Any, ...]:
        shared = sharing(self.reads(), self.value)
        outs = (Leaf(self.values).key, Leaf(self.places).key)
        return ("topk", self.axis, self.largest, self.value.shape, self.value.key, outs, shared)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        shape = self.value.shape
        outer, inner = prod(shape[: self.axis]), prod(shape[self.axis + 1 :])
        with b.split(outer) as row, b.loop(inner) as column:
            self._row(Scope(b, pointers), row, column)

    def _row(self, scope: Scope, row: Any, column: Any) -> None:
        b, dtype = scope.builder, self.value.dtype
        before, best = b.stack(dtype, 1), b.stack(dtype, 1)
        before_at, best_at = b.stack("int32", 1), b.stack("int32", 1)
        b.store(before_at, 0, int32(-1))
        first = b.let(self.value.at(scope, self._index(row, int32(0), column, self.value.shape)))
        b.store(before, 0, first)
        with b.loop(self.values.shape[self.axis]) as k:
            b.store(best_at, 0, int32(-1))
            b.store(best, 0, first)
            with b.loop(self.value.shape[self.axis]) as i:
                x = b.let(self.value.at(scope, self._index(row, i, column, self.value.shape)))
                with b.when(self._is_next(x, i, before, before_at, best, best_at)):
                    b.store(best, 0, x)
                    b.store(best_at, 0, i)
            at = b.let(tir.Select(best_at.load(0) < 0, int32(0), best_at.load(0)))
            target = self._index(row, k, column, self.values.shape)
            b.store(scope.pointers[id(self.values)], Leaf(self.values).offset(target), best.load(0))
            place = Leaf(self.places).offset(target)
            b.store(scope.pointers[id(self.places)], place, tir.Cast("int64", at))
            b.store(before, 0, best.load(0))
            b.store(before_at, 0, at)

    def _is_next(
        self, x: Any, i: Any, before: Pointer, before_at: Pointer, best: Pointer, best_at: Pointer
    ) -> Any:
        """Whether x comes after the one found before, and before the best so far."""
        worse = x < before.load(0) if self.largest else x > before.load(0)
        better = x > best.load(0) if self.largest else x < best.load(0)
        start = before_at.load(0) < 0
        after = tir.Or(worse, tir.And(tir.EQ(x, before.load(0)), i > before_at.load(0)))
        number = tir.EQ(x, x)
        return tir.And(number, tir.And(tir.Or(start, after), tir.Or(best_at.load(0) < 0, better)))

    def _index(self, row: Any, at: Any, column: Any, shape: tuple[int, ...]) -> list[Any]:
        groups = [list(range(self.axis)), [self.axis], list(range(self.axis + 1, len(shape)))]
        places = [p for g, p in zip(groups, (row, at, column), strict=True) if g]
        return unmerge([g for g in groups if g], shape, places)
