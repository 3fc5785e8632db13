"""What a few weights add to a product: `out[m, n] = epilogue(bias[n] + base[m, n] + Σ_i left[m, k_i] · d_i)`.

`base` is the product by the weight without its outliers, d what each outlier is beyond it. A row of outliers
is padded to whole rounds, each of which adds to sums of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .epilogue import evaluate
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .storing import store_first
from .tensor import Tensor

__all__ = ["ROUND", "OutlierRows"]

ROUND = 4
"""Outliers that are added at once: rows are padded to so many."""


@dataclass(eq=False)
class OutlierRows(Kernel):
    """`left`: (M, K) contiguous; `base`, `out`: (M, N); `starts`: int32 (N + 1), in rounds, padded to whole
    vectors of rows; `columns`: uint16 or int32 and `differences`: float32 (rounds · ROUND); `bias`: whole
    vectors of (N,) or None."""

    left: Tensor
    base: Tensor
    starts: Tensor
    columns: Tensor
    differences: Tensor
    bias: Tensor | None
    out: Tensor
    epilogue: Lazy
    family = "outlier-rows"

    def __post_init__(self) -> None:
        self.macs = self.left.shape[0] * self.differences.size

    def reads(self) -> Sequence[Tensor]:
        own = [self.left, self.base, self.starts, self.columns, self.differences]
        own += [self.bias] if self.bias is not None else []
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        own = (self.family, self.bias is not None, self.epilogue.key)
        return (*own, sharing(self.reads(), self.epilogue), *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        work = _Work(self, b, pointers)
        whole, ragged = divmod(self.out.shape[1], b.isa.lanes)
        if whole:
            with b.split(whole) as vector:
                work.vector(vector, b.isa.lanes)
        if ragged:
            with b.when(b.thread == 0):
                work.vector(int32(whole), ragged)


@dataclass
class _Work:
    kernel: OutlierRows
    b: Builder
    pointers: dict[int, Pointer]

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def vector(self, vector: Any, keep: int) -> None:
        """`keep` outputs from those of `vector`, for every row of the left side."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        starts, first = self.pointer(k.starts), b.let(vector * lanes, "n")
        rows = k.out.shape[0]
        totals = b.stack("float32", rows * lanes)
        sums = b.stack("float32", rows * ROUND)
        with b.loop(lanes) as lane:
            for i in range(rows * ROUND):
                b.store(sums, i, constant(0.0, "float32"))
            start = b.let(starts.load(first + lane), "start")
            with b.loop(b.let(starts.load(first + lane + 1) - start, "rounds"), start) as turn:
                self._round(sums, b.let(turn * ROUND))
            for m in range(rows):
                total = sums.load(m * ROUND)
                for i in range(1, ROUND):
                    total = total + sums.load(m * ROUND + i)
                b.store(totals, lane + m * lanes, total)
        for m in range(rows):
            self._store(totals, m, first, keep)

    def _round(self, sums: Pointer, at: Any) -> None:
        k, b = self.kernel, self.b
        columns, differences, left = (self.pointer(t) for t in (k.columns, k.differences, k.left))
        for i in range(ROUND):
            column = b.let(tir.Cast("int32", columns.load(at + i)), "k")
            difference = b.let(differences.load(at + i), "d")
            for m in range(k.out.shape[0]):
                x, slot = left.load(column + m * k.left.shape[1]), m * ROUND + i
                b.store(sums, slot, b.isa.multiply_add(difference, x, sums.load(slot)))

    def _store(self, totals: Pointer, m: int, first: Any, keep: int) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        scope, width = Scope(b, self.pointers), k.out.shape[1]
        total = totals.load(m * lanes, lanes) + self.pointer(k.base).load(first + m * width, lanes)
        if k.bias is not None:
            total = total + self.pointer(k.bias).load(first, lanes)
        result = evaluate(
            k.epilogue,
            scope,
            b.hold(total),
            lambda leaf: row_operand(scope, leaf, [], int32(m), first, lanes),
        )
        store_first(b, self.pointer(k.out), m * width + first, result, lanes, keep)
