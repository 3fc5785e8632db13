"""How a convolution decodes blocks of output channels: several at once for all pixels, or parts of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .builder import Builder, Pointer, int32
from .decoded_panels import StoredStrips, decode_panel
from .isa import Isa

__all__ = ["StoredBlocks"]

_PART = 4096  # weights that are decoded at a time for one tile: half of a first-level cache at most


@dataclass(frozen=True)
class StoredBlocks:
    """`blocks` of `height` outputs and `depth` inputs for each group, their strips one after another.

    `tiles` of pixels use them; `packed` says that each tile is copied into a panel first.
    """

    strips: StoredStrips
    height: int
    depth: int
    blocks: int
    tiles: int
    packed: bool

    @property
    def floats(self) -> int:
        """Elements of one decoded block."""
        return self.strips.padded(self.depth) * self.height

    def at_once(self, isa: Isa) -> int:
        """Blocks that are decoded together and then used for every tile: they fill a part of the cache, so
        that pixels are read seldom.

        0: parts of one block are decoded for one tile; as there is one tile only, or as all blocks do not fit
        together and each tile would have to be packed again for some of them.
        """
        fitting = max(1, isa.target.l2_bytes // 4 // (4 * self.floats))
        again = self.blocks > fitting and self.packed
        return 0 if self.tiles == 1 or again else min(self.blocks, fitting)

    @property
    def part(self) -> int:
        """Inputs of a block that are decoded together where `at_once` is 0."""
        step = self.strips.inputs_of_step
        return min(self.strips.padded(self.depth), max(step, _PART // self.height // step * step))

    def scratch(self, isa: Isa) -> int:
        """Elements of what is decoded at a time."""
        return self.at_once(isa) * self.floats or self.part * self.height

    def decode(
        self, b: Builder, pointers: dict[int, Pointer], block: Any, count: Any, scratch: Pointer, offset: int
    ) -> None:
        """`count` blocks from number `block` of all groups, one after another to `scratch` from `offset`."""
        strips = self.height // self.strips.width
        with b.loop(count) as i:
            first, to = b.let((block + i) * strips), b.let(offset + i * self.floats)
            decode_panel(b, pointers, self.strips, self.depth, first, strips, scratch, to)

    def parts(
        self, b: Builder, pointers: dict[int, Pointer], block: Any, scratch: Pointer, offset: int
    ) -> Iterator[tuple[Any, int]]:
        """(first input, inputs) of every part of a block, decoded to `scratch` from `offset`."""
        strips, part = self.height // self.strips.width, min(self.part, self.depth)
        full, tail = divmod(self.depth, part)
        for start, size, turns in ((0, part, full), (full * part, tail, 1)):
            if not size or not turns:
                continue
            with b.each(turns) as i:
                first = b.let(i * part + start)
                strip, some = b.let(block * strips), (first, int32(size))
                decode_panel(
                    b, pointers, self.strips, self.depth, strip, strips, scratch, int32(offset), some
                )
                yield first, size
