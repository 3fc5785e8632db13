"""Matrix product of row-major activations: `out[m, n] = epilogue(bias[n] + Σ_k left[m, k] · right[k, n])`.

The right side comes in panels (K × a few vectors of columns): packed at compile time when it is a weight,
packed into scratch at run time when it is an activation (attention).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .elementwise import vectors
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .merging import unmerge
from .register_tile import RegisterTile, tile_runs
from .storing import store_first
from .tensor import Tensor

__all__ = ["Matmul", "MatmulWork", "row_operand"]

_MANY = 8  # matrices of a batch: then each is one thread's


@dataclass(eq=False)
class Matmul(Kernel):
    """`left`: (…, M, K); `right`: lazy (…, K, N), or `panels` made of a (K, N) weight; `out`: (…, M, N)."""

    left: Tensor
    right: Lazy | None
    panels: Tensor | None
    bias: Tensor | None
    out: Tensor
    tile: tuple[int, int]
    epilogue: Lazy

    def __post_init__(self) -> None:
        self.macs = self.out.size * self.left.shape[-1]
        self.tile_name = f"{self.tile[0]}x{self.tile[1]}v"

    @property
    def family(self) -> str:  # type: ignore[override]
        return "matmul" if self.right is not None else "gemm"

    def reads(self) -> Sequence[Tensor]:
        own = [self.left] + [t for t in (self.panels, self.bias) if t is not None]
        lazies = [self.right] if self.right is not None else []
        return list({id(t): t for t in [*own, *leaves(*lazies, self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """M, K, N of one product."""
        return self.out.shape[-2], self.left.shape[-1], self.out.shape[-1]

    def by_lanes(self, isa: Isa) -> bool:
        """Whether rows of the left side are read as vectors, whose lanes a multiply-add can take."""
        return isa.target.broadcast == "lane" and self.left.strides[-1] == 1

    def scratch_bytes(self, isa: Isa) -> int:
        return 0 if self.right is None else self.sizes[1] * self.tile[1] * isa.lanes * 4

    @property
    def key(self) -> tuple[Any, ...]:
        lazies = [self.right] if self.right is not None else []
        shared = sharing(self.reads(), *lazies, self.epilogue)
        right = self.right.key if self.right is not None else None
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        own = ("matmul", self.tile, right, self.bias is not None)
        return (*own, self.epilogue.key, shared, *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        runs = tile_runs(-(-self.sizes[2] // b.isa.lanes), self.tile[1])
        many = prod(self.out.shape[:-2]) >= _MANY
        with self._matrices(b, many) as index:
            work = self.work(b, pointers, scratch, index)
            for first, width, count in runs:
                with self._cells(b, count, shared=not many) as (t, block, blocks):
                    work.column_tile(b.let(t * width + first, "v"), width, block, blocks)

    def work(
        self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None, index: list[Any]
    ) -> MatmulWork:
        """The code for one matrix of the batch."""
        return MatmulWork(self, b, pointers, scratch, index)

    @contextmanager
    def _matrices(self, b: Builder, shared: bool) -> Iterator[list[Any]]:
        """Indices of the batch; `shared` out among threads."""
        batch = self.out.shape[:-2]
        if prod(batch) == 1:
            yield [int32(0)] * len(batch)
            return
        with b.split(prod(batch)) if shared else b.loop(prod(batch)) as flat:
            yield unmerge([list(range(len(batch)))], batch, [flat])

    @contextmanager
    def _cells(self, b: Builder, count: int, *, shared: bool) -> Iterator[tuple[Any, Any, Any]]:
        """Column tiles, each with its first block of rows and how many; `shared` out among threads."""
        blocks = -(-self.sizes[0] // self.tile[0])
        if shared:
            with b.split_grid(count, blocks) as cells:
                yield cells
        else:
            with b.loop(count) as t:
                yield t, 0, blocks


@dataclass
class MatmulWork:
    """The code for one matrix of the batch."""

    kernel: Matmul
    b: Builder
    pointers: dict[int, Pointer]
    scratch: Pointer | None
    index: list[Any]

    def column_tile(self, vector: Any, width: int, first: Any, blocks: Any) -> None:
        """`blocks` blocks of rows from the `first`, of `width` vectors of columns from `vector`."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        if k.right is not None:
            assert self.scratch is not None
            self._pack(vector, width)
            panel, base = self.scratch, int32(0)
        else:
            assert k.panels is not None
            panel, base = self.pointers[id(k.panels)], b.let(vector * (lanes * k.sizes[1]))
        for row, height in self.row_blocks(first, blocks):
            tile = RegisterTile(b, height, width, lanes)
            tile.start(self.bias(vector))
            self.sum(tile, row, panel, base)
            self.store(tile, row, vector)

    def row_blocks(self, first: Any, blocks: Any) -> Iterator[tuple[Any, int]]:
        """(first row, rows) of `blocks` blocks from the `first`."""
        k, b = self.kernel, self.b
        full, tail = divmod(k.sizes[0], k.tile[0])
        if full:
            end = b.let(tir.min(first + int32(blocks), int32(full)))
            with b.loop(b.let(end - first), first) as block:
                yield b.let(block * k.tile[0]), k.tile[0]
        if tail:
            with b.when(first + int32(blocks) > full):
                yield int32(full * k.tile[0]), tail

    def sum(
        self, tile: RegisterTile, row: Any, panel: Pointer, base: Any, part: tuple[Any, Any] | None = None
    ) -> None:
        """Adds the products of a block of rows and the panel; `part` is (first input, inputs) of it."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        left, stride, step = self.pointers[id(k.left)], k.left.strides[-2], k.left.strides[-1]
        first, inputs = part or (int32(0), k.sizes[1])
        batch = self._offset(k.left)
        starts = [b.let(batch + (row + r) * stride + first * step) for r in range(tile.rows)]
        by_lanes = part is None and k.by_lanes(b.isa)
        done = self._lane_steps(tile, starts, panel, base) if by_lanes else 0
        with b.loop(inputs - done, done) as i:
            at = b.let(base + i * (tile.vectors * lanes))
            tile.accumulate(
                lambda r: left.load(starts[r] + i * step),
                lambda j: panel.load(at + j * lanes, lanes),
            )

    def _lane_steps(self, tile: RegisterTile, starts: list[Any], panel: Pointer, base: Any) -> int:
        """Steps of the sum in whole vectors of every row, whose lanes are the scalars; returns how many."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        left, pitch = self.pointers[id(k.left)], tile.vectors * lanes
        whole = k.sizes[1] // lanes
        with b.loop(whole) as i:
            rows = [b.let(left.load(start + i * lanes, lanes), "row") for start in starts]
            at = b.let(base + i * (lanes * pitch))
            for step in range(lanes):
                tile.accumulate(
                    lambda r, step=step: tir.Shuffle([rows[r]], [int32(step)]),  # type: ignore[misc]
                    lambda j, step=step: panel.load(at + (step * pitch + j * lanes), lanes),  # type: ignore[misc]
                )
        return whole * lanes

    def bias(self, vector: Any) -> Callable[[int, int], Any] | None:
        bias = self.kernel.bias
        if bias is None:
            return None
        pointer, lanes = self.pointers[id(bias)], self.b.isa.lanes
        return lambda r, j: pointer.load((vector + j) * lanes, lanes)

    def _offset(self, tensor: Tensor) -> Any:
        """Offset of this batch entry's matrix; extents of 1 are broadcast."""
        total: Any = int32(0)
        own = tensor.shape[:-2]
        for i, n, s in zip(self.index[len(self.index) - len(own) :], own, tensor.strides, strict=False):
            total = total + i * s if n != 1 else total
        return total

    def store(self, tile: RegisterTile, row: Any, vector: Any) -> None:
        """The epilogue of a finished tile, into the result."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        n = k.sizes[2]
        out, scope = self.pointers[id(k.out)], Scope(b, self.pointers)
        vectors_total, ragged = -(-n // lanes), n % lanes
        batch = self._offset(k.out)

        def write(r: int, j: int, value: Any) -> None:
            column = (vector + j) * lanes
            result = evaluate(
                k.epilogue,
                scope,
                value,
                lambda leaf: row_operand(scope, leaf, self.index, row + r, column, lanes),
            )
            offset = batch + (row + r) * k.out.strides[-2] + column
            if not ragged:
                b.store(out, offset, result)
                return
            result = b.let(result)
            with b.when(tir.EQ(vector + j, int32(vectors_total - 1))):
                store_first(b, out, offset, result, lanes, ragged)
            with b.when(tir.NE(vector + j, int32(vectors_total - 1))):
                b.store(out, offset, result)

        tile.finish(write)

    def _pack(self, vector: Any, width: int) -> None:
        """panel[k, c] = right[…, k, c], zero past the last column."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        assert self.scratch is not None
        assert k.right is not None
        scope, right, scratch = Scope(b, self.pointers), k.right, self.scratch
        n = k.sizes[2]
        batch = self.index[len(self.index) - (len(right.shape) - 2) :] if len(right.shape) > 2 else []
        batch = [int32(0) if e == 1 else i for i, e in zip(batch, right.shape[:-2], strict=True)]
        row = width * lanes
        with b.loop(k.sizes[1]) as i:
            if n % lanes:
                for j in range(width):
                    b.store(scratch, i * row + j * lanes, constant(0.0, "float32", lanes))
                self._ragged_row(scope, right, batch, i, vector, row)
            else:

                def body(c: Any) -> None:
                    b.store(scratch, i * row + c, right.at(scope, [*batch, i, vector * lanes + c]))

                vectors(b, row, body)

    def _ragged_row(self, scope: Scope, right: Lazy, batch: list[Any], i: Any, vector: Any, row: int) -> None:
        b, lanes, n = self.b, self.b.isa.lanes, self.kernel.sizes[2]
        assert self.scratch is not None
        count = b.let(tir.min(int32(row), n - vector * lanes))
        with b.loop(count) as c:
            b.store(self.scratch, i * row + c, right.at(scope, [*batch, i, vector * lanes + c]))


def row_operand(scope: Scope, leaf: Leaf, index: list[Any], row: Any, column: Any, lanes: int) -> Any:
    """An epilogue operand for one vector of columns, broadcast by numpy's rules against (…, M, N)."""
    tensor = leaf.tensor
    if tensor.size == 1:
        return _spread(scope.load(tensor, int32(0)), lanes)
    if len(tensor.shape) > len(index) + 2:  # batch axes are folded into rows: one row for all, or one each
        offset: Any = int32(0) if tensor.size == tensor.shape[-1] else row * tensor.shape[-1]
        return scope.load(tensor, offset + column, lanes)
    full = [*index, row, column]
    own = full[len(full) - len(tensor.shape) :]
    offset = int32(0)
    for i, n, s in zip(own[:-1], tensor.shape[:-1], tensor.strides[:-1], strict=True):
        offset = offset + i * s if n != 1 else offset
    if tensor.shape[-1] == 1:
        return _spread(scope.load(tensor, offset), lanes)
    return scope.load(tensor, offset + column, lanes)


def _spread(value: Any, lanes: int) -> Any:
    return value if lanes == 1 else tir.Broadcast(value, lanes)
