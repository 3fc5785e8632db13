"""How a convolution decodes blocks of output channels: several at once for all pixels, or one for a tile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .builder import Builder, Pointer, int32
from .decoded_panels import Place, StoredStrips, decode_panel
from .isa import Isa
from .tensor import Tensor

__all__ = ["Scratch", "StoredBlocks", "StoredDense", "StoredRuns"]

_PART = 4096  # weights that are decoded at a time for one tile: half of a first-level cache at most


@dataclass(frozen=True)
class Scratch:
    """Where decoded weights go, and the function that writes them."""

    b: Builder
    pointers: dict[int, Pointer]
    pointer: Pointer
    offset: int


class StoredBlocks(ABC):
    """Blocks of output channels whose weights are stored in strips."""

    strips: StoredStrips

    @property
    @abstractmethod
    def key(self) -> tuple[Any, ...]:
        """Everything that the code depends on, beside the tensors."""

    @abstractmethod
    def fitting(self, isa: Isa) -> int:
        """Blocks that fill a part of the cache together when they are decoded."""

    @abstractmethod
    def floats(self, together: int) -> int:
        """Elements of so many decoded blocks; of what is decoded at a time for one tile, if 0."""

    @abstractmethod
    def decode(self, to: Scratch, block: Any, count: Any) -> None:
        """Writes `count` blocks from number `block` of all groups."""


@dataclass(frozen=True)
class StoredDense(StoredBlocks):
    """Blocks of `height` outputs and `depth` inputs, their strips one after another."""

    strips: StoredStrips
    height: int
    depth: int

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.strips.key, self.height)

    @property
    def block_floats(self) -> int:
        """Elements of one decoded block."""
        return self.strips.padded(self.depth) * self.height

    def fitting(self, isa: Isa) -> int:
        return max(1, isa.target.l2_bytes // 4 // (4 * self.block_floats))

    def floats(self, together: int) -> int:
        return together * self.block_floats or self._part * self.height

    @property
    def _part(self) -> int:
        """Inputs of a block that are decoded together for one tile."""
        step = self.strips.inputs_of_step
        return min(self.strips.padded(self.depth), max(step, _PART // self.height // step * step))

    def decode(self, to: Scratch, block: Any, count: Any) -> None:
        b, strips = to.b, self.height // self.strips.width
        with b.loop(count) as i:
            first, place = b.let((block + i) * strips), b.let(to.offset + i * self.block_floats)
            decode_panel(b, to.pointers, self.strips, self.depth, first, strips, to.pointer, place)

    def parts(self, to: Scratch, block: Any) -> Iterator[tuple[Any, int]]:
        """(first input, inputs) of every part of a block, after it has been decoded."""
        b, strips, part = to.b, self.height // self.strips.width, min(self._part, self.depth)
        full, tail = divmod(self.depth, part)
        runs = [(0, part, full), (full * part, tail, 1)]
        for start, size, turns in (run for run in runs if run[1] and run[2]):
            with b.each(turns) as i:
                first = b.let(i * part + start)
                strip, some = b.let(block * strips), (first, int32(size))
                decode_panel(
                    b, to.pointers, self.strips, self.depth, strip, strips, to.pointer, int32(to.offset), some
                )
                yield first, size


@dataclass(frozen=True)
class StoredRuns(StoredBlocks):
    """R×1 blocks of a sparse weight, a strip for each row of blocks.

    `firsts` int32 [rows of blocks + 1] are the steps stored before each; a strip has at most `longest`, and
    `together` neighbouring ones, which fill a part of the cache when they are decoded, have `most`.
    """

    strips: StoredStrips
    firsts: Tensor
    together: int
    longest: int
    most: int

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.strips.key, self.together)

    def fitting(self, isa: Isa) -> int:
        return self.together

    def floats(self, together: int) -> int:
        return (self.most if together > 1 else self.longest) * self.strips.step

    def decode(self, to: Scratch, block: Any, count: Any) -> None:
        b, firsts, strips = to.b, to.pointers[id(self.firsts)], self.strips
        begin = b.let(firsts.load(block))
        with b.loop(count) as i:
            strip = b.let(block + i)
            at = b.let(firsts.load(strip))
            steps = b.let(firsts.load(strip + 1) - at)
            place = Place(to.pointer, b.let(to.offset + (at - begin) * strips.step), strips.width)
            strips.decode(b, to.pointers, strip, at, int32(0), steps, place)
