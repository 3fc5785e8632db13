"""The inner tile of every matrix kernel: rows × vectors of accumulators in registers.

    acc[r][j] = start[r][j] + Σ_k  a(k, r) · b(k, j)      r < rows, j < vectors

`a` gives scalars (broadcast), `b` vectors. The sum's loop is the caller's, so that dense and sparse kernels
share the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .isa import Isa

__all__ = ["RegisterTile", "best_tile", "fits", "good_tiles", "scalars", "step_time", "tile_runs"]

_SPARE = 2  # registers to leave where rows are vectors: with none, LLVM spills accumulators


class RegisterTile:
    """Accumulators of `rows` × `vectors` registers of `lanes` float32 (or int32)."""

    def __init__(self, b: Builder, rows: int, vectors: int, lanes: int, dtype: str = "float32") -> None:
        self.b, self.rows, self.vectors, self.lanes = b, rows, vectors, lanes
        per_array = max(1, 512 // (4 * lanes))  # registers that one stack array may hold
        count = rows * vectors
        self._arrays: list[Pointer] = [
            b.stack(dtype, lanes * min(per_array, count - start)) for start in range(0, count, per_array)
        ]
        self._per_array = per_array

    def _slot(self, row: int, vector: int) -> tuple[Pointer, int]:
        which, place = divmod(row * self.vectors + vector, self._per_array)
        return self._arrays[which], place * self.lanes

    def get(self, row: int, vector: int) -> Any:
        """One accumulator."""
        array, place = self._slot(row, vector)
        return array.load(place, self.lanes)

    def set(self, row: int, vector: int, value: Any) -> None:
        """Replaces one accumulator."""
        array, place = self._slot(row, vector)
        self.b.store(array, place, value)

    def start(self, value: Callable[[int, int], Any] | None = None) -> None:
        """Fills every accumulator, with zero where no value is given."""
        for row in range(self.rows):
            for vector in range(self.vectors):
                zero = constant(0.0, "float32", self.lanes)
                self.set(row, vector, value(row, vector) if value else zero)

    def accumulate(self, a: Callable[[int], Any], b: Callable[[int], Any]) -> None:
        """Adds one outer product: scalars `a(row)`, vectors `b(vector)`."""
        columns = [self.b.let(b(j), "bv") for j in range(self.vectors)]
        for row in range(self.rows):
            scalar = self.b.let(a(row), "av")
            broadcast = scalar if self.lanes == 1 else tir.Broadcast(scalar, self.lanes)
            for j, column in enumerate(columns):
                self.set(row, j, self.b.isa.multiply_add(broadcast, column, self.get(row, j)))

    def finish(self, write: Callable[[int, int, Any], None]) -> None:
        """Hands every accumulator out."""
        for row in range(self.rows):
            for j in range(self.vectors):
                write(row, j, self.get(row, j))


def scalars(b: Builder, source: Pointer, offset: Any, count: int) -> Callable[[int], Any]:
    """Reads `count` neighbouring scalars that are about to be broadcast.

    Where a multiply-add can take one lane of a register (NEON), they are loaded as vectors.
    """
    if b.isa.target.broadcast != "lane":
        return lambda i: source.load(offset + i)
    lanes = b.isa.lanes
    whole = count // lanes
    vectors = [b.let(source.load(offset + i * lanes, lanes), "wv") for i in range(whole)]

    def scalar(i: int) -> Any:
        if i >= whole * lanes:
            return source.load(offset + i)
        return tir.Shuffle([vectors[i // lanes]], [int32(i % lanes)])

    return scalar


def best_tile(
    isa: Isa, rows: int, vectors: int, most_vectors: int = 6, vector_rows: bool = False
) -> tuple[int, int]:
    """(rows, vectors) of the tile that covers a `rows` × `vectors` problem in the least estimated time.

    With `vector_rows` every row's scalars are lanes of a register of its own.
    """
    best: tuple[float, tuple[int, int]] | None = None
    for tile in _tiles(isa, rows, vectors, most_vectors, vector_rows):
        cost = _time(isa, rows, vectors, *tile)
        if best is None or cost < best[0] - 1e-9:
            best = (cost, tile)
    assert best is not None
    return best[1]


def good_tiles(
    isa: Isa, rows: int, vectors: int, count: int, most_vectors: int = 6, vector_rows: bool = False
) -> list[tuple[int, int]]:
    """`count` tiles at most that cut the problem differently: the best, then by estimated time."""
    best = best_tile(isa, rows, vectors, most_vectors, vector_rows)
    others = sorted(
        _tiles(isa, rows, vectors, most_vectors, vector_rows), key=lambda t: _time(isa, rows, vectors, *t)
    )
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for tile in (best, *others):
        found.setdefault((tile[0], _cover(vectors, tile[1])), tile)
    return list(found.values())[:count]


def _tiles(
    isa: Isa, rows: int, vectors: int, most_vectors: int, vector_rows: bool
) -> Iterator[tuple[int, int]]:
    """(rows, vectors) of tiles that fit the registers."""
    for nv in range(1, min(most_vectors, vectors) + 1):
        for mr in range(1, min(rows, 16) + 1):
            if not fits(isa, mr, nv, mr - -(-mr // isa.lanes) + _SPARE if vector_rows else 0):
                break
            yield mr, nv


def fits(isa: Isa, rows: int, vectors: int, more: int = 0) -> bool:
    """Whether a tile's accumulators (and `more` others) stay in registers with the operands of a step."""
    operands = {"memory": 1, "register": 1, "all": rows, "lane": -(-rows // isa.lanes)}[isa.target.broadcast]
    return rows * vectors + more + vectors + operands <= isa.registers


def step_time(isa: Isa, rows: int, vectors: int, more: int = 0) -> float:
    """Cycles of one step of the sum, roughly: multiply-adds, loads, and the latency they must hide.

    `more` counts further accumulators.
    """
    target = isa.target
    products = (rows * vectors + more) / target.fma_per_cycle
    scalar_loads = -(-rows // isa.lanes) if target.broadcast == "lane" else rows
    loads = (vectors + scalar_loads + more) / target.loads_per_cycle
    return max(products, loads, 4.0) + 0.05 * (loads + 4)


def tile_runs(vectors: int, most: int) -> list[tuple[int, int, int]]:
    """Cuts `vectors` into even tiles of at most `most`: runs of (first vector, tile width, tiles).

    >>> tile_runs(13, 4)
    [(0, 4, 1), (4, 3, 3)]
    """
    tiles = -(-vectors // most)
    width, big = divmod(vectors, tiles)
    runs = [(0, width + 1, big), (big * (width + 1), width, tiles - big)]
    return [run for run in runs if run[2]]


def _cover(total: int, part: int) -> int:
    return -(-total // part)


def _time(isa: Isa, rows: int, vectors: int, mr: int, nv: int) -> float:
    full_rows, tail_rows = divmod(rows, mr)
    time = 0.0
    for _, width, count in tile_runs(vectors, nv):
        for height, times in ((mr, full_rows), (tail_rows, 1 if tail_rows else 0)):
            time += count * times * step_time(isa, height, width) if height else 0
    return time
