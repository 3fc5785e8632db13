"""Integer products where the instruction reads int16: activations are widened before they are multiplied.

A block of rows of pixels is copied, with all that its windows reach, to scratch: as int16, each element as
far from the others as in the source. Tiles of all outputs then read it there.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .integer_product import IntegerProduct, Reach, Work
from .isa import Isa
from .register_tile import tile_runs

__all__ = ["WidenedProduct", "widens"]

_CHUNK = 16  # elements that are widened at once
_SHARE = 8  # part of the second cache that a block may fill


def widens(reach: Reach, reads: str) -> bool:
    """Whether a product is computed so: every group of activations starts at an even element."""
    distances = (*reach.steps, *(distance for _, distance in reach.taps), reach.group)
    return reads == "int16" and all(distance % 2 == 0 for distance in distances)


class WidenedProduct(IntegerProduct):
    """The same product, by way of scratch."""

    @property
    def key(self) -> tuple[Any, ...]:
        return ("widened", *super().key)

    def _elements(self, rows: int) -> int:
        """What the windows of `rows` rows of pixels span."""
        reach = self.reach
        run = -(-reach.run // self.dot.depth) * self.dot.depth
        beyond = (reach.pixels[2] - 1) * reach.steps[2] + sum(
            (n - 1) * distance for n, distance in reach.taps
        )
        return (rows - 1) * reach.steps[1] + beyond + run

    def _rows(self, isa: Isa) -> int:
        """Rows of pixels in a block: whole tiles."""
        most = isa.target.l2_bytes // _SHARE // 2
        height = self.tile[0]
        fitting = (most - self._elements(1)) // max(1, self.reach.steps[1]) + 1
        return min(max(1, fitting // height), -(-self.reach.pixels[1] // height)) * height

    def scratch_bytes(self, isa: Isa) -> int:
        return 2 * (self._elements(self._rows(isa)) + _CHUNK)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        images, pixel_rows, _ = self.reach.pixels
        rows = self._rows(b.isa)
        height, blocks = self.tile[0], -(-pixel_rows // rows)
        wide = b.retyped(scratch, "int16")
        with b.each(images) as n, b.each(self.reach.groups) as g:
            for first, width, count in tile_runs(self.strips, self.tile[2]):
                with b.split_grid(blocks, count) as (block, column, here):
                    start = n * self.reach.steps[0] + g * self.reach.group
                    start = b.let(start + block * (rows * self.reach.steps[1]), "start")
                    self._widen(b, pointers[id(self.source)], wide, start, block * rows, rows)
                    work = Work(self, b, pointers, n, g, wide, start)
                    with b.loop(here, column) as t:
                        strip = b.let(t * width + first, "strip")
                        work.panel(strip, width, b.let(block * (rows // height)), rows // height)

    def _widen(self, b: Builder, source: Pointer, wide: Pointer, start: Any, y: Any, rows: int) -> None:
        """Elements from `start` on to int16, for `rows` rows of pixels from the row `y` or those left."""
        left = self._elements(self.reach.pixels[1]) - y * self.reach.steps[1]
        count = b.let(tir.min(int32(self._elements(rows)), left), "count")
        chunks = b.let(tir.truncdiv(count, int32(_CHUNK)), "chunks")
        with b.loop(chunks) as i:
            at = b.let(i * _CHUNK)
            b.store(wide, at, tir.Cast(f"int16x{_CHUNK}", source.load(start + at, _CHUNK)))
        with b.loop(b.let(count - chunks * _CHUNK), b.let(chunks * _CHUNK)) as i:
            b.store(wide, i, tir.Cast("int16", source.load(start + i)))
