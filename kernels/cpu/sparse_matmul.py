"""Row-major activations times a block-sparse weight: `out[m, n] = bias[n] + Σ_k left[m, k] · weight[k, n]`.

Blocks hold R neighbouring outputs of one input. With many rows, activations are transposed into a panel
(K × a few vectors of rows), multiplied like pixels of a convolution, and transposed back on the way out. With
few rows the R outputs of a block are the vector: the memory-bound case reads every stored weight once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .isa import Isa
from .kernel import Kernel
from .lazy import Leaf
from .register_tile import RegisterTile
from .tensor import Tensor

__all__ = ["SparseMatmul"]


@dataclass(eq=False)
class SparseMatmul(Kernel):
    """`left`: (M, K) contiguous; `weights`: values, columns, starts of (N, K) blocks; `out`: (M, N)."""

    left: Tensor
    weights: tuple[Tensor, Tensor, Tensor]
    bias: Tensor | None
    out: Tensor
    block_rows: int
    vectors: int
    family = "sparse-gemm"

    def reads(self) -> Sequence[Tensor]:
        return [self.left, *self.weights] + ([self.bias] if self.bias else [])

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    def few_rows(self, isa: Isa) -> bool:
        """Whether lanes would be empty with one row of activations in each."""
        return self.left.shape[0] * 2 < isa.lanes or self.left.shape[0] < 4

    def scratch_bytes(self, isa: Isa) -> int:
        return 0 if self.few_rows(isa) else self.left.shape[1] * self.vectors * isa.lanes * 4

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        return ("sparse-gemm", self.block_rows, self.vectors, self.bias is not None, *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        work = _Work(self, b, pointers)
        if self.few_rows(b.isa):
            work.vectors_of_outputs()
            return
        assert scratch is not None
        rows, lanes = self.left.shape[0], b.isa.lanes
        width = min(self.vectors, -(-rows // lanes))
        with b.split(-(-rows // (width * lanes))) as t:
            work.row_tile(b.let(t * (width * lanes)), width, scratch)


@dataclass
class _Work:
    kernel: SparseMatmul
    b: Builder
    pointers: dict[int, Pointer]

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def _bias(self, output: Any) -> Any:
        bias = self.kernel.bias
        return constant(0.0, "float32") if bias is None else self.pointer(bias).load(output)

    def vectors_of_outputs(self) -> None:
        """One vector of R outputs at a time, for each row of activations."""
        k, b, r = self.kernel, self.b, self.kernel.block_rows
        rows, depth = k.left.shape
        outputs = k.out.shape[1]
        values, columns, starts = (self.pointer(t) for t in k.weights)
        left, out = self.pointer(k.left), self.pointer(k.out)
        with b.split(-(-outputs // r)) as block:
            begin = b.let(starts.load(block))
            count = b.let(starts.load(block + 1) - begin)
            with b.loop(rows) as m:
                total = b.stack("float32", r)
                b.store(total, 0, constant(0.0, "float32", r))
                with b.loop(count, begin) as i:
                    scalar = b.let(left.load(m * depth + columns.load(i)))
                    x = scalar if r == 1 else tir.Broadcast(scalar, r)
                    b.store(total, 0, values.load(i * r, r) * x + total.load(0, r))
                for row in range(r):
                    n = block * r + row
                    with b.when(n < outputs):
                        b.store(out, m * outputs + n, total.load(row) + self._bias(n))

    def row_tile(self, first: Any, width: int, panel: Pointer) -> None:
        """All outputs of `width` vectors of activation rows; rows past the last are read as the last."""
        k, b, r = self.kernel, self.b, self.kernel.block_rows
        rows = k.left.shape[0]
        lanes, outputs = b.isa.lanes, k.out.shape[1]
        self._transpose_in(first, width, panel)
        values, columns, starts = (self.pointer(t) for t in k.weights)
        out, row = self.pointer(k.out), width * lanes
        count = b.let(tir.min(int32(row), rows - first))
        with b.loop(-(-outputs // r)) as block:
            begin = b.let(starts.load(block))
            tile = RegisterTile(b, r, width, lanes)
            tile.start()
            with b.loop(b.let(starts.load(block + 1) - begin), begin) as i:
                at, w = b.let(columns.load(i) * row), b.let(i * r)
                tile.accumulate(lambda q: values.load(w + q), lambda j: panel.load(at + j * lanes, lanes))
            spill = [b.stack("float32", lanes) for _ in range(width)]
            for q in range(r):
                n = b.let(block * r + q)
                with b.when(n < outputs):
                    bias = b.let(self._bias(n))
                    for j in range(width):
                        b.store(spill[j], 0, tile.get(q, j) + tir.Broadcast(bias, lanes))
                        with b.loop(tir.max(tir.min(int32(lanes), count - j * lanes), int32(0))) as lane:
                            b.store(out, (first + j * lanes + lane) * outputs + n, spill[j].load(lane))

    def _transpose_in(self, first: Any, width: int, panel: Pointer) -> None:
        k, b = self.kernel, self.b
        rows, depth = k.left.shape
        left, row = self.pointer(k.left), width * b.isa.lanes
        with b.loop(row) as m:
            start = b.let(tir.min(first + m, int32(rows - 1)) * depth)
            with b.loop(depth) as c:
                b.store(panel, c * row + m, left.load(start + c))
