"""Matrix product of two activations, any of whose sizes may be known only at run time.

The right side is read where it lies if its columns lie side by side, else it is packed into scratch, a few
columns at a time, which takes a number of inputs that is known. Columns are computed in tiles of whole
vectors, then vector by vector; the last few are a vector of which only the first lanes are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tvm import tirx as tir

from ..dims import Size, fits, is_fixed, may_turn
from .any_rows import rest_tiles
from .builder import Builder, Pointer, constant, int32
from .elementwise import vectors
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .matmul import row_operand
from .merging import unmerge
from .register_tile import RegisterTile
from .tensor import Tensor

__all__ = ["AnyProduct"]

_MANY = 8  # matrices of a batch: then each is one thread's


@dataclass(frozen=True)
class _Run:
    """`count` tiles of `width` vectors from vector `first`; of a `partial` one the first lanes count."""

    first: Size
    width: int
    count: Size
    partial: bool = False


@dataclass(eq=False)
class AnyProduct(Kernel):
    """`left`: (…, M, K); `right`: (…, K, N), in memory or with a known K; `out`: (…, M, N), rows dense."""

    left: Tensor
    right: Lazy
    out: Tensor
    tile: tuple[int, int]
    epilogue: Lazy
    family = "any-product"

    def __post_init__(self) -> None:
        self.tile_name = f"{self.tile[0]}x{self.tile[1]}v"

    def reads(self) -> Sequence[Tensor]:
        return list({id(t): t for t in [self.left, *leaves(self.right, self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def sizes(self) -> tuple[Size, Size, Size]:
        """M, K, N of one product."""
        return self.out.shape[-2], self.left.shape[-1], self.out.shape[-1]

    @property
    def in_place(self) -> Tensor | None:
        """The right side, where it is read as it lies."""
        found = self.right.tensor if isinstance(self.right, Leaf) else None
        return found if found is not None and found.strides[-1] == 1 else None

    def by_lanes(self, isa: Isa) -> bool:
        """Whether rows of the left side are read as vectors, whose lanes a multiply-add can take."""
        return isa.target.broadcast == "lane" and self.left.strides[-1] == 1

    def scratch_bytes(self, isa: Isa) -> int:
        return 0 if self.in_place else 4 * self.sizes[1] * self.tile[1] * isa.lanes

    @property
    def key(self) -> tuple[Any, ...]:
        shared = sharing(self.reads(), self.right, self.epilogue)
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        return ("any-product", self.tile, self.right.key, self.epilogue.key, shared, *tensors)

    def runs(self, isa: Isa) -> list[_Run]:
        """All columns."""
        whole = self.sizes[2] // isa.lanes
        wide, single = divmod(whole, self.tile[1])
        partial = (self.sizes[2] + (isa.lanes - 1)) // isa.lanes - whole
        found = [
            _Run(0, self.tile[1], wide),
            _Run(wide * self.tile[1], 1, single),
            _Run(whole, 1, partial, partial=True),
        ]
        return [run for run in found if may_turn(run.count)]

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        many = fits(_MANY, prod(self.out.shape[:-2]))
        with self._matrices(b, many) as index:
            work = _Work(self, b, pointers, scratch, index)
            for run in self.runs(b.isa):
                with self._cells(b, run.count, shared=not many) as (t, block, blocks):
                    work.column_tile(b.let(int32(t * run.width + run.first), "v"), run, block, blocks)

    @contextmanager
    def _matrices(self, b: Builder, shared: bool) -> Iterator[list[Any]]:
        """Indices of the batch; `shared` out among threads."""
        batch = self.out.shape[:-2]
        if prod(batch) == 1:
            yield [int32(0)] * len(batch)
            return
        with b.split(prod(batch)) if shared else b.loop(prod(batch)) as flat:
            yield [b.let(int32(i)) for i in unmerge([list(range(len(batch)))], batch, [flat])]

    @contextmanager
    def _cells(self, b: Builder, count: Size, *, shared: bool) -> Iterator[tuple[Any, Any, Any]]:
        """Column tiles, each with its first block of rows and how many; `shared` out among threads."""
        blocks = -(-self.sizes[0] // self.tile[0])
        if shared:
            with b.split_grid(count, blocks) as cells:
                yield cells
        else:
            with b.loop(count) as t:
                yield t, int32(0), int32(blocks)


@dataclass
class _Work:
    """The code for one matrix of the batch."""

    kernel: AnyProduct
    b: Builder
    pointers: dict[int, Pointer]
    scratch: Pointer | None
    index: list[Any]
    scope: Scope = field(init=False)

    def __post_init__(self) -> None:
        self.scope = Scope(self.b, self.pointers)

    def column_tile(self, vector: Any, run: _Run, first: Any, blocks: Any) -> None:
        """`blocks` blocks of rows from the `first`, of the columns of a run's tile from `vector`."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        if (right := k.in_place) is not None:
            panel, base = self.pointers[id(right)], b.let(self._offset(right) + vector * lanes)
            pitch: Any = right.strides[-2]
        else:
            assert self.scratch is not None
            self._pack(vector, run)
            panel, base, pitch = self.scratch, int32(0), run.width * lanes
        for row, height in self._row_blocks(first, blocks):
            tile = RegisterTile(b, height, run.width, lanes)
            tile.start()
            self._sum(tile, row, panel, base, pitch)
            self._store(tile, row, vector, run)

    def _row_blocks(self, first: Any, blocks: Any) -> Iterator[tuple[Any, int]]:
        """(first row, rows) of `blocks` blocks from the `first`."""
        b, height = self.b, self.kernel.tile[0]
        full, rest = divmod(self.kernel.sizes[0], height)
        if may_turn(full):
            end = b.let(tir.min(first + blocks, int32(full)))
            with b.loop(b.let(end - first), first) as block:
                yield b.let(block * height), height
        if not is_fixed(rest):
            with b.when(first + blocks > int32(full)):
                yield from rest_tiles(b, int32(full * height), int32(rest), height)
        elif rest:
            with b.when(first + blocks > int32(full)):
                yield int32(full * height), rest

    def _sum(self, tile: RegisterTile, row: Any, panel: Pointer, base: Any, pitch: Any) -> None:
        """Adds the products of a block of rows and the panel, whose rows lie `pitch` apart."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        left, stride, step = self.pointers[id(k.left)], k.left.strides[-2], k.left.strides[-1]
        batch = self._offset(k.left)
        starts = [b.let(batch + (row + r) * stride) for r in range(tile.rows)]
        done: Any = 0
        if k.by_lanes(b.isa):
            done = k.sizes[1] // lanes * lanes
            with b.loop(k.sizes[1] // lanes) as i:
                rows = [b.let(left.load(start + i * lanes, lanes), "row") for start in starts]
                at = b.let(base + i * lanes * pitch)
                for s in range(lanes):
                    tile.accumulate(
                        lambda r, s=s: tir.Shuffle([rows[r]], [int32(s)]),  # type: ignore[misc]
                        lambda j, s=s: panel.load(at + s * pitch + j * lanes, lanes),  # type: ignore[misc]
                    )
        with b.loop(k.sizes[1] - done, done) as i:
            at = b.let(base + i * pitch)
            tile.accumulate(
                lambda r: left.load(starts[r] + i * step), lambda j: panel.load(at + j * lanes, lanes)
            )

    def _offset(self, tensor: Tensor) -> Any:
        """Offset of this batch entry's matrix; extents of 1 are broadcast."""
        total: Any = int32(0)
        own = tensor.shape[:-2]
        for i, n, s in zip(self.index[len(self.index) - len(own) :], own, tensor.strides, strict=False):
            total = total + i * s if n != 1 else total
        return total

    def _store(self, tile: RegisterTile, row: Any, vector: Any, run: _Run) -> None:
        """The epilogue of a finished tile, into the result."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        out, batch = self.pointers[id(k.out)], self._offset(k.out)

        def write(r: int, j: int, value: Any) -> None:
            column = (vector + j) * lanes
            operand: Callable[[Leaf], Any] = lambda leaf: row_operand(  # noqa: E731
                self.scope, leaf, self.index, row + r, column, lanes
            )
            result = evaluate(k.epilogue, self.scope, value, operand)
            offset = batch + (row + r) * k.out.strides[-2] + column
            if not run.partial:
                b.store(out, offset, result)
                return
            spill = b.stack("float32", lanes)
            b.store(spill, 0, result)
            with b.loop(k.sizes[2] % lanes) as lane:
                b.store(out, offset + lane, spill.load(lane))

        tile.finish(write)

    def _pack(self, vector: Any, run: _Run) -> None:
        """panel[k, c] = right[…, k, c], zero past the last column."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        assert self.scratch is not None
        scratch, right = self.scratch, k.right
        batch = self.index[len(self.index) - (len(right.shape) - 2) :] if len(right.shape) > 2 else []
        batch = [int32(0) if e == 1 else i for i, e in zip(batch, right.shape[:-2], strict=True)]
        row = run.width * lanes
        with b.loop(k.sizes[1]) as i:

            def body(c: Any) -> None:
                value = right.at(self.scope, [*batch, i, vector * lanes + c])
                b.store(scratch, i * row + c, value)

            if run.partial:
                b.store(scratch, i * row, constant(0.0, "float32", lanes))
                with b.loop(k.sizes[2] % lanes) as c:
                    body(c)
            else:
                vectors(b, row, body)
