"""The tile of a convolution: rows × (vectors of pixels, and a few single pixels).

A plane rarely holds a whole number of vectors. Its last pixels are not padded to a vector of their own, most
of which would be computed for nothing: each is a column of accumulators with one output channel in a lane.

    acc[r][j] += a[r] · b[j]        for the vectors
    rest[p][:] += a[:] · b[p]       for the single pixels
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import STACK_BYTES, Builder, Pointer, constant
from .isa import Isa
from .register_tile import RegisterTile, fits, scalars, step_time, tile_runs

__all__ = ["PixelRun", "PixelTile", "best_pixel_tile", "good_pixel_tiles", "pixel_runs", "tile_time"]


@dataclass(frozen=True)
class PixelRun:
    """`count` tiles from pixel `first`, each of `vectors` vectors and `left` single pixels."""

    first: int
    vectors: int
    left: int
    count: int


def _pieces(rows: int, lanes: int) -> list[tuple[int, int]]:
    """Rows as vectors over rows: (first row, rows), each a power of two.

    >>> _pieces(22, 16)
    [(0, 16), (16, 4), (20, 2)]
    """
    pieces, done = [], 0
    while done < rows:
        size = min(lanes, 1 << ((rows - done).bit_length() - 1))
        pieces.append((done, size))
        done += size
    return pieces


def _rest_registers(isa: Isa, rows: int, left: int) -> int:
    return (left + 1) * len(_pieces(rows, isa.lanes)) if left else 0


def pixel_runs(isa: Isa, rows: int, pixels: int, most: int) -> list[PixelRun]:
    """Cuts a plane of `pixels` into tiles of `rows` × at most `most` vectors that fit the registers."""
    lanes = isa.lanes
    whole, left = divmod(pixels, lanes)
    carrier = 0
    if left and _padding_is_cheaper(isa, rows, left):
        whole, left = whole + 1, 0
    if left:
        more = _rest_registers(isa, rows, left)
        carrier = max(v for v in range(min(most, whole) + 1) if fits(isa, rows, v, more))
    body = whole - carrier
    cuts = tile_runs(body, most) if body else []
    runs = [PixelRun(first * lanes, vectors, 0, count) for first, vectors, count in cuts]
    if left:
        runs.append(PixelRun(body * lanes, carrier, left, 1))
    return runs


def _padding_is_cheaper(isa: Isa, rows: int, left: int) -> bool:
    """Whether one more vector costs less than `left` columns over rows, of at least half a vector each."""
    pieces = _pieces(rows, isa.lanes)
    narrow = min(size for _, size in pieces) < 4
    large = 4 * rows * left > STACK_BYTES or not fits(isa, rows, 0, _rest_registers(isa, rows, left))
    return narrow or large or left * len(pieces) >= rows


def best_pixel_tile(isa: Isa, rows: int, pixels: int, height: int = 0) -> tuple[int, int]:
    """(rows, most vectors) of the tile with the least estimated time; `height` fixes the rows."""
    best: tuple[float, tuple[int, int]] | None = None
    for tile in _pixel_tiles(isa, rows, pixels, height):
        cost = tile_time(isa, rows, pixels, tile)
        if best is None or cost < best[0] * (1 - 1e-9):
            best = (cost, tile)
    return best[1] if best else (height or 1, 1)


def good_pixel_tiles(isa: Isa, rows: int, pixels: int, height: int, count: int) -> list[tuple[int, int]]:
    """`count` tiles at most that cut the plane differently: the best, then by estimated time."""
    best = best_pixel_tile(isa, rows, pixels, height)
    others = sorted(
        _pixel_tiles(isa, rows, pixels, height), key=lambda tile: tile_time(isa, rows, pixels, tile)
    )
    found: dict[object, tuple[int, int]] = {}
    for tile in (best, *others):
        found.setdefault((tile[0], tuple(pixel_runs(isa, tile[0], pixels, tile[1]))), tile)
    return list(found.values())[:count]


def _pixel_tiles(isa: Isa, rows: int, pixels: int, height: int) -> Iterator[tuple[int, int]]:
    """Tiles that fit the registers."""
    for nv in range(1, max(1, min(6, pixels // isa.lanes)) + 1):
        for mr in (height,) if height else range(1, min(rows, 32) + 1):
            if not fits(isa, mr, nv):
                break
            yield mr, nv


def tile_time(isa: Isa, rows: int, pixels: int, tile: tuple[int, int]) -> float:
    """Cycles, roughly, that one input channel takes for all outputs."""
    mr, nv = tile
    blocks = [(h, n) for h, n in ((mr, rows // mr), (rows % mr, 1)) if h and n]
    return sum(
        run.count * n * step_time(isa, h, run.vectors, run.left * len(_pieces(h, isa.lanes)))
        for run in pixel_runs(isa, mr, pixels, nv)
        for h, n in blocks
    )


class PixelTile:
    """Accumulators for `rows` output channels of `vectors` vectors and `left` single pixels."""

    def __init__(self, b: Builder, rows: int, vectors: int, left: int) -> None:
        self.b, self.rows, self.left, self.lanes = b, rows, left, b.isa.lanes
        self.body = RegisterTile(b, rows, vectors, self.lanes)
        self.pieces = _pieces(rows, self.lanes) if left else []
        self._rest = [[b.stack("float32", size) for _, size in self.pieces] for _ in range(left)]

    def start(self, bias: Pointer | None, first_row: Any, height: int) -> None:
        """Fills the accumulators with zero, or with `height` biases from `first_row`."""
        b, lanes = self.b, self.lanes
        zero = constant(0.0, "float32", lanes)
        if bias is None:
            self.body.start()
        elif self.body.vectors:
            rows = [b.let(bias.load(first_row + r)) for r in range(height)]
            self.body.start(lambda r, j: tir.Broadcast(rows[r], lanes) if r < height else zero)
        for pixel in self._rest:
            for slot, (row, size) in zip(pixel, self.pieces, strict=True):
                start = constant(0.0, "float32", size) if bias is None else bias.load(first_row + row, size)
                b.store(slot, 0, start)

    def resume(self, read: Callable[[Any, int, int], Any]) -> None:
        """Takes up sums that `finish` handed out: `read(row, place, lanes)`, places counted in pixels."""
        b, lanes = self.b, self.lanes
        self.body.start(lambda r, j: read(r, j * lanes, lanes))
        for p, pixel in enumerate(self._rest):
            for slot, (row, size) in zip(pixel, self.pieces, strict=True):
                for i in range(size):
                    b.store(slot, i, read(row + i, self.body.vectors * lanes + p, 1))

    def accumulate(self, weights: Pointer, w: Any, columns: Pointer, at: Any) -> None:
        """Adds the product of the scalars at `weights[w]` and the pixels at `columns[at]`."""
        b, lanes = self.b, self.lanes
        if self.body.vectors:
            self.body.accumulate(
                scalars(b, weights, w, self.rows), lambda j: columns.load(at + j * lanes, lanes)
            )
        if not self.left:
            return
        over_rows = [b.let(weights.load(w + row, size), "wv") for row, size in self.pieces]
        for p, pixel in enumerate(self._rest):
            x = b.let(columns.load(at + (self.body.vectors * lanes + p)), "xv")
            for slot, weight, (_, size) in zip(pixel, over_rows, self.pieces, strict=True):
                spread = x if size == 1 else tir.Broadcast(x, size)
                b.store(slot, 0, b.isa.multiply_add(spread, weight, slot.load(0, size)))

    def finish(self, height: int, write: Callable[[Any, int, Any], None]) -> None:
        """Hands out `height` rows as vectors of pixels: `write(row, vector, value)`."""
        self.body.finish(lambda r, j, value: write(r, j, value) if r < height else None)
        if not self.left:
            return
        b, rows, lanes = self.b, self.rows, self.lanes
        columns, row = b.stack("float32", self.left * rows), b.stack("float32", lanes)
        for p, pixel in enumerate(self._rest):
            for slot, (first, size) in zip(pixel, self.pieces, strict=True):
                b.store(columns, p * rows + first, slot.load(0, size))
        b.store(row, 0, constant(0.0, "float32", lanes))
        with b.loop(height) as r:
            for p in range(self.left):
                b.store(row, p, columns.load(r + p * rows))
            write(r, self.body.vectors, row.load(0, lanes))
