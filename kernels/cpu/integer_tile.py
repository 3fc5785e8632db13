"""Which tile an integer product works in: rows × columns of pixels, and vectors of outputs."""

from __future__ import annotations

from collections.abc import Iterator

from .integer_dot import Dot
from .register_tile import tile_runs

__all__ = ["best_integer_tile", "good_integer_tiles"]

_MOST_PIXELS = 16
_MOST_VECTORS = 4  # bytes of four are packed and stored at once
_FINISH = 6.0  # cycles that a vector of sums takes to be scaled, rounded and stored

Tile = tuple[int, int, int]


def best_integer_tile(dot: Dot, pixels: tuple[int, int], strips: int, steps: int) -> Tile:
    """The tile with the least estimated time for rows × columns of pixels and sums of so many steps."""
    return good_integer_tiles(dot, pixels, strips, steps, 1)[0]


def good_integer_tiles(dot: Dot, pixels: tuple[int, int], strips: int, steps: int, count: int) -> list[Tile]:
    """The `count` best by the estimate."""
    return sorted(_tiles(dot, pixels, strips), key=lambda tile: _time(dot, pixels, strips, steps, tile))[
        :count
    ]


def _tiles(dot: Dot, pixels: tuple[int, int], strips: int) -> Iterator[Tile]:
    for vectors in range(1, min(_MOST_VECTORS, strips) + 1):
        for rows in range(1, min(_MOST_PIXELS, pixels[0]) + 1):
            for columns in range(1, min(_MOST_PIXELS // rows, pixels[1]) + 1):
                whole = rows == 1 or columns == pixels[1]  # of several rows only whole ones
                if whole and _fits(dot, rows * columns, vectors):
                    yield rows, columns, vectors


def _fits(dot: Dot, pixels: int, vectors: int) -> bool:
    operands = pixels if dot.steps > 1 or dot.isa.target.broadcast == "all" else 1
    spare = 0 if dot.depth == 4 else 1  # a product waits in a register to be added
    if dot.depth == 4 and dot.paired == 2:  # many wait, and places of activations take registers too
        spare = (dot.isa.registers - 6) // 2
    return pixels * vectors + vectors + operands + spare <= dot.isa.registers


def _time(dot: Dot, pixels: tuple[int, int], strips: int, steps: int, tile: Tile) -> float:
    rows, columns, _ = tile
    time = 0.0
    for _, width, count in tile_runs(strips, tile[2]):
        for height, many in _parts(pixels[0], rows):
            for wide, times in _parts(pixels[1], columns):
                time += count * many * times * _tile_time(dot, height * wide, width, steps)
    return time


def _parts(extent: int, part: int) -> list[tuple[int, int]]:
    full, tail = divmod(extent, part)
    return [(size, times) for size, times in ((part, full), (tail, 1)) if size and times]


def _tile_time(dot: Dot, pixels: int, vectors: int, steps: int) -> float:
    target = dot.isa.target
    products = pixels * vectors * (1 if dot.depth == 4 else 2)
    step = max(products, (pixels + vectors) / target.loads_per_cycle, 4.0) + 0.05 * (pixels + vectors)
    return steps * step + pixels * vectors * _FINISH + 20.0
