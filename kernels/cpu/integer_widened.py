"""Integer products where the instruction reads int16: activations are widened before they are multiplied.

A block of rows of pixels is copied, with all that its windows reach, to scratch: as int16, each element as
far from the others as in the source. Tiles of all outputs then read it there.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as tir

from ..dims import is_fixed
from .builder import Builder, Pointer, int32
from .integer_product import IntegerProduct, Reach, Work
from .isa import Isa
from .register_tile import tile_runs

__all__ = ["WidenedProduct", "widens"]

_CHUNK = 16  # elements that are widened at once
_SHARE = 8  # part of the second cache that a block may fill
_ENOUGH = 4  # tiles
_ALIGNED = 64  # bytes


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
        blocks = max(1, fitting // height)
        if is_fixed(self.reach.pixels[1]):
            blocks = min(blocks, -(-self.reach.pixels[1] // height))
        return blocks * height

    def _panel(self, width: int) -> int:
        """Weights of so many vectors of outputs."""
        return self.depth * width * self.dot.lanes * self.dot.depth

    def _copies_weights(self, isa: Isa) -> bool:
        """Whether enough tiles read a panel of weights that widening it in scratch pays."""
        tiles = self._rows(isa) // self.tile[0] * -(-self.reach.pixels[2] // self.tile[1])
        return self.dot.weight_dtype == "int8" and tiles >= _ENOUGH

    def _beyond(self, isa: Isa) -> int:
        """Bytes of scratch before the activations: those of the weights, at distances that loads can take."""
        weights = 2 * (self._panel(self.tile[2]) + _CHUNK) if self._copies_weights(isa) else 0
        return -(-weights // _ALIGNED) * _ALIGNED

    def scratch_bytes(self, isa: Isa) -> int:
        return self._beyond(isa) + 2 * (self._elements(self._rows(isa)) + _CHUNK)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        rows = self._rows(b.isa)
        height, blocks = self.tile[0], -(-self.reach.pixels[1] // rows)
        wide = b.retyped(scratch, "int16", self._beyond(b.isa))
        panels = b.retyped(scratch, "int16") if self._copies_weights(b.isa) else None
        with b.each(self.reach.pixels[0]) as n, b.each(self.reach.groups) as g:
            for first, width, count in tile_runs(self.strips, self.tile[2]):
                with b.split_grid(blocks, count) as (block, column, here):
                    start = n * self.reach.steps[0] + g * self.reach.group
                    start = b.let(start + block * (rows * self.reach.steps[1]), "start")
                    _widen(b, pointers[id(self.source)], wide, start, self._left(b, block * rows, rows))
                    work = Work(self, b, pointers, n, g, wide, start, panels)
                    with b.loop(here, column) as t:
                        strip = b.let(t * width + first, "strip")
                        if panels is not None:
                            place = b.let((g * self.strips + strip) * self._panel(1), "panel")
                            _widen(b, pointers[id(self.weights)], panels, place, int32(self._panel(width)))
                            work.panels_origin = place
                        work.panel(strip, width, b.let(block * (rows // height)), rows // height)

    def _left(self, b: Builder, y: Any, rows: int) -> Any:
        """Elements of `rows` rows of pixels from the row `y`, or of those that are left."""
        left = self._elements(self.reach.pixels[1]) - y * self.reach.steps[1]
        return b.let(tir.min(int32(self._elements(rows)), left), "count")


def _widen(b: Builder, source: Pointer, wide: Pointer, start: Any, count: Any) -> None:
    """`count` elements from `start` on to int16."""
    chunks = b.let(tir.truncdiv(count, int32(_CHUNK)), "chunks")
    with b.loop(chunks) as i:
        at = b.let(i * _CHUNK)
        b.store(wide, at, tir.Cast(f"int16x{_CHUNK}", source.load(start + at, _CHUNK)))
    with b.loop(b.let(count - chunks * _CHUNK), b.let(chunks * _CHUNK)) as i:
        b.store(wide, i, tir.Cast("int16", source.load(start + i)))
