"""Softmax and its logarithm over one axis, in three passes that stay in the cache.

m = max x;  e = exp(x - m), s = Σ e;  y = e / s        (log: y = x - m - ln s)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as tir

from ..dims import Size, is_fixed, may_turn
from . import vectormath as vm
from .arithmetic import maximum
from .builder import VECTORIZED, Builder, Pointer, constant
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .merging import unmerge
from .reduction import OPERATIONS, fold_lanes
from .tensor import Tensor

__all__ = ["Softmax"]


@dataclass(eq=False)
class Softmax(Kernel):
    """float32 `value` and contiguous `out` of the same shape."""

    value: Lazy
    axis: int
    logarithm: bool
    out: Tensor
    family = "softmax"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.value)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        shared = sharing(self.reads(), self.value)
        return ("softmax", self.axis, self.logarithm, self.value.key, Leaf(self.out).key, shared)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        shape = self.out.shape
        outer, inner = prod(shape[: self.axis]), prod(shape[self.axis + 1 :])
        rows = _Rows(self, b, Scope(b, pointers), pointers[id(self.out)], inner)
        with b.split(outer) as row:
            if inner == 1:
                rows.along_lanes(row)
            else:
                for start, count, width in _pieces(inner, b.isa.lanes):
                    if count == 1 and width < b.isa.lanes:
                        rows.across_lanes(row, start, width)
                        continue
                    with b.loop(count) as v:
                        rows.across_lanes(row, v * width + start, width)


@dataclass
class _Rows:
    kernel: Softmax
    b: Builder
    scope: Scope
    out: Pointer
    inner: Size

    @property
    def length(self) -> Size:
        return self.kernel.out.shape[self.kernel.axis]

    def value(self, row: Any, i: Any, column: Any) -> Any:
        """Element i of a softmax row; `column` counts what lies behind the axis."""
        shape, axis = self.kernel.out.shape, self.kernel.axis
        groups = [list(range(axis)), [axis], list(range(axis + 1, len(shape)))]
        used = [g for g in groups if g]
        places = [p for g, p in zip(groups, (row, i, column), strict=True) if g]
        return self.kernel.value.at(self.scope, unmerge(used, shape, places))

    def place(self, row: Any, i: Any, column: Any) -> Any:
        return (row * self.length + i) * self.inner + column

    def along_lanes(self, row: Any) -> None:
        """Vectors lie along the axis."""
        b, n = self.b, self.length
        lanes = min(b.isa.lanes, n) if is_fixed(n) else b.isa.lanes
        peak = b.stack("float32", lanes)
        b.store(peak, 0, constant(float("-inf"), "float32", lanes))
        for start, count, width in _pieces(n, lanes):
            with b.loop(count) as v, b.loop(width, kind=VECTORIZED) as lane:
                i = v * width + lane + start
                x = b.hold(self.value(row, i, 0))
                b.store(self.out, self.place(row, i, 0), x)
                b.store(peak, lane, maximum(peak.load(lane), x))
        top = b.hold(fold_lanes(b, maximum, peak, lanes))
        total = b.stack("float32", lanes)
        b.store(total, 0, constant(0.0, "float32", lanes))
        for start, count, width in _pieces(n, lanes):
            with b.loop(count) as v, b.loop(width, kind=VECTORIZED) as lane:
                at = self.place(row, v * width + lane + start, 0)
                shifted = b.hold(self.out.load(at) - top)
                e = b.hold(vm.exp(b, shifted))
                b.store(total, lane, total.load(lane) + e)
                b.store(self.out, at, shifted if self.kernel.logarithm else e)
        sum_ = b.hold(fold_lanes(b, OPERATIONS["sum"], total, lanes))
        scale = b.hold(self._scale(sum_))
        for start, count, width in _pieces(n, lanes):
            with b.loop(count) as v, b.loop(width, kind=VECTORIZED) as lane:
                at = self.place(row, v * width + lane + start, 0)
                b.store(self.out, at, self._finish(self.out.load(at), scale))

    def _scale(self, total: Any) -> Any:
        return (
            vm.log(self.b, self.b.hold(total)) if self.kernel.logarithm else tir.const(1.0, "float32") / total
        )

    def _finish(self, value: Any, scale: Any) -> Any:
        return value - scale if self.kernel.logarithm else value * scale

    def across_lanes(self, row: Any, start: Any, lanes: int) -> None:
        """Every lane is a softmax of its own."""
        b, n = self.b, self.length
        peak, total = b.stack("float32", lanes), b.stack("float32", lanes)
        b.store(peak, 0, constant(float("-inf"), "float32", lanes))
        b.store(total, 0, constant(0.0, "float32", lanes))
        with b.loop(n) as i, b.loop(lanes, kind=VECTORIZED) as lane:
            x = b.hold(self.value(row, i, lane + start))
            b.store(self.out, self.place(row, i, lane + start), x)
            b.store(peak, lane, maximum(peak.load(lane), x))
        with b.loop(n) as i, b.loop(lanes, kind=VECTORIZED) as lane:
            at = self.place(row, i, lane + start)
            shifted = b.hold(self.out.load(at) - peak.load(lane))
            e = b.hold(vm.exp(b, shifted))
            b.store(total, lane, total.load(lane) + e)
            b.store(self.out, at, shifted if self.kernel.logarithm else e)
        with b.loop(lanes, kind=VECTORIZED) as lane:
            b.store(total, lane, self._scale(total.load(lane)))
        with b.loop(n) as i, b.loop(lanes, kind=VECTORIZED) as lane:
            at = self.place(row, i, lane + start)
            b.store(self.out, at, self._finish(self.out.load(at), total.load(lane)))


def _pieces(n: Size, lanes: int) -> list[tuple[Size, Size, int]]:
    """(start, vectors, lanes of each) that cover `n` elements: those behind whole vectors are one vector, or
    single ones where their number is known at run time."""
    full, tail = divmod(n, lanes)
    rest = (full * lanes, 1, tail) if is_fixed(n) else (full * lanes, tail, 1)
    return [p for p in ((0, full, lanes), rest) if may_turn(p[1]) and p[2]]
