"""Convolution whose weights are decoded while it computes, dense or block-sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .convolution import Convolution, ConvolutionWork
from .isa import Isa
from .pixel_tile import PixelRun, PixelTile
from .stored_blocks import Scratch, StoredBlocks, StoredDense, StoredRuns

__all__ = ["StoredConvolution"]


@dataclass(eq=False)
class StoredConvolution(Convolution):
    """`weights` are the tensors of `stored`; where it is sparse (block_rows > 0), after them `firsts`, gaps
    uint8, uint16 or int32 [blocks] from each R×1 block's input to the next one's, and starts int32
    [rows of blocks + 1]."""

    stored: StoredBlocks | None = None

    @property
    def blocks(self) -> StoredBlocks:
        assert self.stored is not None
        return self.stored

    @property
    def key(self) -> tuple[Any, ...]:
        return (*super().key, self.blocks.key)

    @property
    def row_blocks(self) -> int:
        """Blocks of output channels of one group."""
        return -(-self.rows // (self.block_rows or self.tile[0]))

    def at_once(self, isa: Isa) -> int:
        """Blocks that are decoded together and then used for every tile, so that pixels are read seldom.

        0: a block is decoded for one tile; as there is one only, or as not all blocks fit the cache together
        and each tile would have to be packed again for some of them.
        """
        fitting = self.blocks.fitting(isa)
        tiles = sum(run.count for run in self.runs(isa))
        again = self.row_blocks > fitting and self.uses_panel(isa)
        return 0 if tiles == 1 or again else min(self.row_blocks, fitting)

    def scratch_bytes(self, isa: Isa) -> int:
        return super().scratch_bytes(isa) + 4 * self.blocks.floats(self.at_once(isa))

    def work(
        self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None, n: Any, g: Any
    ) -> ConvolutionWork:
        return _Work(self, b, pointers, scratch, n, g, self)


@dataclass
class _Work(ConvolutionWork):
    stored: StoredConvolution
    held: Any = None  # the first of the blocks that are decoded together

    def __post_init__(self) -> None:
        assert self.scratch is not None
        offset = self.kernel.panel_floats(self.b.isa)
        self.to = Scratch(self.b, self.pointers, self.scratch, offset)

    def tiles(self, runs: list[PixelRun], blocks: int) -> None:
        """A few blocks at a time are decoded, and used for every tile of pixels."""
        b, at_once = self.b, self.stored.at_once(self.b.isa)
        if not at_once:
            super().tiles(runs, blocks)
            return
        with b.split_grid(-(-blocks // at_once), sum(run.count for run in runs)) as (part, first, count):
            self.held = b.let(part * at_once, "held")
            together = b.let(tir.min(int32(at_once), blocks - self.held), "together")
            self.stored.blocks.decode(self.to, b.let(self.g * blocks + self.held), together)
            start = 0
            for run in runs:
                lower = b.let(tir.max(first - start, int32(0)))
                upper = b.let(tir.min(first + count - start, int32(run.count)))
                with b.loop(b.let(tir.max(upper - lower, int32(0))), lower) as t:
                    self.pixel_tile(self.first_pixel(run, t), run, self.held, together)
                start += run.count

    def sum(self, tile: PixelTile, block: Any, height: int, pixel: Any) -> None:
        stored = self.stored.blocks
        number = self.b.let(self.g * self.stored.row_blocks + block)
        if isinstance(stored, StoredRuns):
            self._sparse(tile, stored, number, pixel)
        elif isinstance(stored, StoredDense):
            self._dense(tile, stored, block, number, pixel)

    def _dense(self, tile: PixelTile, stored: StoredDense, block: Any, number: Any, pixel: Any) -> None:
        b, start, height = self.b, self.to.offset, stored.height
        if self.held is not None:
            base = b.let((block - self.held) * stored.block_floats + start, "w")
            self.dense_sum(tile, self.to.pointer, base, height, pixel, 0, stored.depth)
            return
        for first, inputs in stored.parts(self.to, number):
            self.dense_sum(tile, self.to.pointer, int32(start), height, pixel, first, inputs)

    def _sparse(self, tile: PixelTile, stored: StoredRuns, number: Any, pixel: Any) -> None:
        k, b = self.stored, self.b
        base: Any = int32(self.to.offset)
        if self.held is None:
            stored.decode(self.to, number, int32(1))
        else:
            firsts = self.pointer(stored.firsts)
            before = firsts.load(self.g * k.row_blocks + self.held)
            base = b.let((firsts.load(number) - before) * stored.strips.step + self.to.offset, "w")
        gaps, starts = (self.pointer(t) for t in k.weights[-2:])
        source, start, row = self.columns(pixel)
        begin, place = b.let(starts.load(number)), b.stack("int32", 1)
        b.store(place, 0, start)
        with b.loop(b.let(starts.load(number + 1) - begin)) as i:
            b.store(place, 0, place.load(0) + tir.Cast("int32", gaps.load(begin + i)) * row)
            at, w = b.let(place.load(0)), b.let(base + i * k.block_rows)
            tile.accumulate(self.to.pointer, w, source, at)
