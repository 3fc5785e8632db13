"""Copies a matrix with its axes swapped, in square blocks of one vector that are turned in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as tir

from ..dims import fits
from .builder import Builder, Pointer, int32
from .kernel import Kernel
from .lazy import Leaf
from .tensor import Tensor, contiguous

__all__ = ["TransposeMatrix", "is_feature_major", "turned"]


def turned(b: Builder, rows: Sequence[Any]) -> list[Any]:
    """The transpose of a square: `n` vectors of `n` lanes, n a power of two.

    Each of log₂ n steps exchanges, in every pair of vectors that lie `step` apart, the lanes that belong to
    the other: x86 and ARM have instructions for these patterns.
    """
    values, n = list(rows), len(rows)
    step = 1
    while step < n:
        low = [i if i & step == 0 else n + (i ^ step) for i in range(n)]
        high = [i + step if i & step == 0 else n + i for i in range(n)]
        for i in range(n):
            if i & step == 0:
                pair = [values[i], values[i + step]]
                values[i], values[i + step] = (b.hold(_shuffle(pair, order)) for order in (low, high))
        step *= 2
    return values


def _shuffle(pair: list[Any], order: list[int]) -> Any:
    return tir.Shuffle(pair, [tir.IntImm("int32", i) for i in order])


def is_feature_major(tensor: Tensor) -> bool:
    """Whether the leading axes of (…, features) lie side by side and features further apart."""
    if not tensor.shape:
        return False
    *leading, features = tensor.shape
    rows = contiguous(tuple(leading))
    packed = all(n == 1 or s == e for n, s, e in zip(leading, tensor.strides, rows, strict=False))
    count = prod(leading)
    return packed and fits(2, count) and fits(2, features) and fits(count, tensor.strides[-1])


@dataclass(eq=False)
class TransposeMatrix(Kernel):
    """`source` (rows, columns) with columns side by side; `out` the same shape with rows side by side."""

    source: Tensor
    out: Tensor
    family = "transpose"

    @classmethod
    def to_rows(cls, tensor: Tensor, out: Tensor) -> TransposeMatrix:
        """Copies a feature-major tensor into contiguous `out` of the same shape."""
        rows, features = prod(tensor.shape[:-1]), tensor.shape[-1]
        # its features are the rows here, and lie side by side in `out`
        source = tensor.view((features, rows), (tensor.strides[-1], 1))
        return cls(source, out.view((features, rows), (1, features)))

    def reads(self) -> Sequence[Tensor]:
        return (self.source,)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("transpose", Leaf(self.source).key, Leaf(self.out).key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        rows, columns = self.source.shape
        lanes = b.isa.lanes
        source, out = pointers[id(self.source)], pointers[id(self.out)]
        from_row, to_column = self.source.strides[0], self.out.strides[1]
        full_rows, full_columns = rows // lanes, columns // lanes
        if full_rows and full_columns:
            with b.split(full_columns) as c, b.loop(full_rows) as r:
                start = b.let(r * (lanes * from_row) + c * lanes)
                square = [b.hold(source.load(start + i * from_row, lanes)) for i in range(lanes)]
                to = b.let(c * (lanes * to_column) + r * lanes)
                for i, value in enumerate(turned(b, square)):
                    b.store(out, to + i * to_column, value)
        self._rest(b, source, out, (full_rows * lanes, rows), (0, full_columns * lanes))
        self._rest(b, source, out, (0, rows), (full_columns * lanes, columns))

    def _rest(
        self, b: Builder, source: Pointer, out: Pointer, rows: tuple[int, int], columns: tuple[int, int]
    ) -> None:
        """What fills no square, element by element."""
        if rows[0] == rows[1] or columns[0] == columns[1]:
            return
        with b.split(columns[1] - columns[0]) as c, b.loop(rows[1] - rows[0]) as r:
            row, column = r + int32(rows[0]), c + int32(columns[0])
            value = source.load(row * self.source.strides[0] + column)
            b.store(out, column * self.out.strides[1] + row, value)
