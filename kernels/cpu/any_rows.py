"""Matrix product of weights in panels and as many rows as a run brings.

The rows left behind whole tiles are computed by tiles of half the rows, a quarter, …, so that no row is
computed twice. A single row takes several sums at once over neighbouring inputs, which hides the latency of
multiply-adds: a run with one row is as fast as matrix × vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from ..dims import Size
from .builder import Builder, Pointer, int32
from .matmul import Matmul, MatmulWork
from .register_tile import RegisterTile

__all__ = ["AnyRows", "any_blocks", "halves", "rest_tiles"]

_CHAINS = 8  # multiply-adds that wait for one another's results at a time


def halves(tile: int) -> list[int]:
    """Powers of two below `tile`, largest first: any count below it is a sum of some of them.

    >>> halves(6), halves(1)
    ([4, 2, 1], [])
    """
    return [1 << bit for bit in reversed(range((tile - 1).bit_length()))]


def rest_tiles(b: Builder, first: Any, count: Any, tile: int) -> Iterator[tuple[Any, int]]:
    """(first, rows) of tiles that cover `count` < `tile` rows from the `first`, each behind its condition."""
    done: Any = int32(0)
    for height in halves(tile):
        bit = b.let(tir.bitwise_and(count, int32(height)))
        with b.when(bit != 0):
            yield b.let(first + done), height
        done = b.let(done + bit)


def any_blocks(b: Builder, rows: Size, height: int, first: Any, blocks: Any) -> Iterator[tuple[Any, int]]:
    """(first row, rows) of `blocks` blocks of `height` rows from the `first`; the last may hold fewer."""
    full, rest = (b.let(int32(v)) for v in divmod(rows, height))
    end = b.let(tir.min(first + int32(blocks), full))
    with b.loop(b.let(end - first), first) as block:
        yield b.let(block * height), height
    with b.when(first + int32(blocks) > full):
        yield from rest_tiles(b, full * height, rest, height)


@dataclass(eq=False)
class AnyRows(Matmul):
    """`left`: (M, K), `out`: (M, N), M known at run time; `panels` are made of a (K, N) weight."""

    def __post_init__(self) -> None:
        self.tile_name = f"{self.tile[0]}x{self.tile[1]}v"

    @property
    def key(self) -> tuple[Any, ...]:
        return ("any-rows", *super().key)

    def work(
        self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None, index: list[Any]
    ) -> MatmulWork:
        return _AnyRowsWork(self, b, pointers, scratch, index)

    @contextmanager
    def _matrices(self, b: Builder, shared: bool) -> Iterator[list[Any]]:
        assert len(self.out.shape) == 2
        yield []


@dataclass
class _AnyRowsWork(MatmulWork):
    def row_blocks(self, first: Any, blocks: Any) -> Iterator[tuple[Any, int]]:
        return any_blocks(self.b, self.kernel.sizes[0], self.kernel.tile[0], first, blocks)

    def sum(
        self, tile: RegisterTile, row: Any, panel: Pointer, base: Any, part: tuple[Any, Any] | None = None
    ) -> None:
        chains = min(_CHAINS // tile.vectors, self.kernel.sizes[1])
        if tile.rows > 1 or chains < 2:
            super().sum(tile, row, panel, base, part)
            return
        self._single_row(tile, chains, row, panel, base)

    def _single_row(self, tile: RegisterTile, chains: int, row: Any, panel: Pointer, base: Any) -> None:
        """One row: chain c adds every input i ≡ c (mod chains), to a row of accumulators of its own."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        left, step, width = self.pointers[id(k.left)], k.left.strides[-1], tile.vectors
        start = b.let(self._offset(k.left) + row * k.left.strides[-2])
        more = RegisterTile(b, chains, width, lanes)
        more.start()

        def add(i: Any, chain: int) -> None:
            scalar = tir.Broadcast(b.let(left.load(start + i * step)), lanes)
            at = b.let(base + i * (width * lanes))
            for j in range(width):
                vector = panel.load(at + j * lanes, lanes)
                more.set(chain, j, b.isa.multiply_add(scalar, vector, more.get(chain, j)))

        depth = k.sizes[1]
        with b.loop(depth // chains) as turn:
            for chain in range(chains):
                add(turn * chains + chain, chain)
        for i in range(depth - depth % chains, depth):
            add(i, 0)
        for j in range(width):
            total = tile.get(0, j)
            for chain in range(chains):
                total = b.hold(total + more.get(chain, j))
            tile.set(0, j, total)
