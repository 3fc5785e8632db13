"""Determinants of small matrices, by elimination with pivots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as tir

from .arithmetic import FUNCTIONS
from .builder import Builder, Pointer, constant
from .kernel import Kernel
from .lazy import Leaf
from .tensor import Tensor

__all__ = ["Determinant"]


@dataclass(eq=False)
class Determinant(Kernel):
    """`out` (batch axes) of `matrix` (batch axes, n, n), row-major, which is overwritten.

    Column by column the row with the largest entry is swapped up, which changes the sign, and multiples of
    it are taken from those below; the product of the diagonal is left.
    """

    matrix: Tensor
    out: Tensor
    family = "determinant"

    def reads(self) -> Sequence[Tensor]:
        return ()

    def writes(self) -> Sequence[Tensor]:
        return (self.out, self.matrix)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("determinant", self.matrix.shape, self.matrix.dtype, Leaf(self.out).key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        n = self.matrix.shape[-1]
        work, out = pointers[id(self.matrix)], pointers[id(self.out)]
        with b.split(prod(self.out.shape)) as one:
            start = b.let(one * (n * n))
            total = b.stack(self.matrix.dtype, 1)
            b.store(total, 0, constant(1, self.matrix.dtype))
            with b.loop(n) as column:
                pivot = self._pivot(b, work, start, column)
                with b.when(tir.NE(pivot, column)):
                    b.store(total, 0, constant(0, self.matrix.dtype) - total.load(0))
                    with b.loop(n) as i:
                        upper, lower = start + column * n + i, start + pivot * n + i
                        kept = b.stack(self.matrix.dtype, 1)
                        b.store(kept, 0, work.load(upper))
                        b.store(work, upper, work.load(lower))
                        b.store(work, lower, kept.load(0))
                self._eliminate(b, work, start, column, total)
            b.store(out, one, total.load(0))

    def _pivot(self, b: Builder, work: Pointer, start: Any, column: Any) -> Any:
        """The row, from `column` down, whose entry in that column is the largest."""
        n = self.matrix.shape[-1]
        size = FUNCTIONS["Abs"]
        best = b.stack("int32", 1)
        b.store(best, 0, column)
        with b.loop(n) as row, b.when(row > column):
            entry, most = (work.load(start + r * n + column) for r in (row, best.load(0)))
            entry, most = (size.emit(b, [x], {}, self.matrix.dtype) for x in (entry, most))
            with b.when(entry > most):
                b.store(best, 0, row)
        return best.load(0)

    def _eliminate(self, b: Builder, work: Pointer, start: Any, column: Any, total: Pointer) -> None:
        n, dtype = self.matrix.shape[-1], self.matrix.dtype
        diagonal = b.stack(dtype, 1)
        b.store(diagonal, 0, work.load(start + column * n + column))
        b.store(total, 0, total.load(0) * diagonal.load(0))
        with b.loop(n) as row, b.when(tir.And(row > column, tir.NE(diagonal.load(0), constant(0, dtype)))):
            factor = b.stack(dtype, 1)
            b.store(factor, 0, work.load(start + row * n + column) / diagonal.load(0))
            with b.loop(n) as i:
                at = start + row * n + i
                taken = factor.load(0) * work.load(start + column * n + i)
                b.store(work, at, work.load(at) - taken)
