"""A few rows times a block-sparse weight: `out[m, n] = epilogue(bias[n] + Σ_k left[m, k] · w[k, n])`.

Blocks hold R neighbouring outputs of one input, which are the vector: every stored weight is read once, which
is what takes the time. Several blocks go on at once, each with accumulators of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .epilogue import evaluate
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .register_tile import RegisterTile
from .storing import store_first
from .tensor import Tensor

__all__ = ["SparseMatmul", "SparseWork"]

_AT_ONCE = 4  # blocks, so that the latency of a multiply-add is hidden
_MOST_ROWS = 4  # rows of activations that use a block while it is in a register


@dataclass(eq=False)
class SparseMatmul(Kernel):
    """`left`: (M, K) contiguous; `weights`: values, columns, starts of (N, K) blocks; `out`: (M, N)."""

    left: Tensor
    weights: tuple[Tensor, Tensor, Tensor]
    bias: Tensor | None
    out: Tensor
    block_rows: int
    epilogue: Lazy
    family = "sparse-gemm"

    def reads(self) -> Sequence[Tensor]:
        own = [self.left, *self.weights] + ([self.bias] if self.bias else [])
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        return ("sparse-gemm", self.block_rows, self.bias is not None, self.epilogue.key, shared, *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        work, rows = SparseWork(self, b, pointers), self.out.shape[0]
        for first in range(0, rows, _MOST_ROWS):
            work.rows(first, min(_MOST_ROWS, rows - first))


@dataclass
class SparseWork:
    """The code of a product."""

    kernel: SparseMatmul
    b: Builder
    pointers: dict[int, Pointer]

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def rows(self, first: Any, count: int) -> None:
        """All outputs of `count` rows of activations from `first`; blocks are shared out among threads."""
        b, r = self.b, self.kernel.block_rows
        full, tail = divmod(self.kernel.out.shape[1], r)
        if full:
            with b.split(full) as block:
                self.block(block, first, count, r)
        if tail:
            with b.when(b.thread == 0):
                self.block(int32(full), first, count, tail)

    def block(self, block: Any, first: Any, count: int, height: int) -> None:
        """`height` ≤ R outputs of `count` rows of activations from `first`."""
        k, b, r = self.kernel, self.b, self.kernel.block_rows
        starts = self.pointer(k.weights[2])
        begin = b.let(starts.load(block))
        blocks = b.let(starts.load(block + 1) - begin)
        tile = RegisterTile(b, _AT_ONCE, count, r)
        tile.start()
        rounds = b.let(tir.truncdiv(blocks, int32(_AT_ONCE)))
        with b.loop(rounds) as i:
            at = b.let(begin + i * _AT_ONCE)
            for lane in range(_AT_ONCE):
                self._add(tile, lane, at + lane, first, count)
        rest = b.let(begin + rounds * _AT_ONCE)
        with b.loop(b.let(begin + blocks - rest), rest) as at:
            self._add(tile, 0, at, first, count)
        for m in range(count):
            total = tile.get(0, m)
            for lane in range(1, _AT_ONCE):
                total = total + tile.get(lane, m)
            self._store(b.hold(total), block, first + m, height)

    def _add(self, tile: RegisterTile, lane: int, at: Any, first: Any, count: int) -> None:
        k, b, r = self.kernel, self.b, self.kernel.block_rows
        values, columns = self.pointer(k.weights[0]), self.pointer(k.weights[1])
        weights = b.hold(values.load(at * r, r))
        column = b.let(columns.load(at))
        for m in range(count):
            x = self.pointer(k.left).load(column + (first + m) * k.left.shape[1])
            x = x if r == 1 else tir.Broadcast(x, r)
            tile.set(lane, m, b.isa.multiply_add(weights, x, tile.get(lane, m)))

    def _store(self, total: Any, block: Any, row: Any, height: int) -> None:
        k, b, r = self.kernel, self.b, self.kernel.block_rows
        scope, first = Scope(b, self.pointers), block * r
        if k.bias is not None:
            total = b.hold(total + self.pointer(k.bias).load(first, r))
        index: list[Any] = []
        result = evaluate(
            k.epilogue, scope, total, lambda leaf: row_operand(scope, leaf, index, int32(row), first, r)
        )
        store_first(b, self.pointer(k.out), row * k.out.shape[1] + first, result, r, height)
