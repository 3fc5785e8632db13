"""Strips of weights that are palette indices: unpacked, looked up, and added up over the books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .code_planes import SIDE_BY_SIDE, PackedCodes, codes_per_step
from .decoded_panels import Place, StoredStrips

__all__ = ["PaletteStrips"]


@dataclass(eq=False)
class PaletteStrips(StoredStrips):
    """`tensors` are the codes uint8 [books, steps, bytes], the tables float32 [groups, blocks, 2 ** bits, d]
    of every book, one after another, and where there are several groups their numbers int32, one for each
    strip or for each output of each strip.

    `d` neighbouring outputs share a code. Every `block` inputs begin another table; 0 where there is one
    for all of them. `grouping` is "", "strip" or "output".
    """

    bits: int
    books: int
    d: int
    block: int
    grouping: str

    @property
    def key(self) -> tuple[Any, ...]:
        own = (self.bits, self.books, self.d, self.block, self.grouping, self.width)
        return ("palette", *own, *((t.dtype, t.shape) for t in self.tensors))

    @property
    def blocks(self) -> int:
        """Tables along the inputs."""
        return self.tensors[1].shape[2]

    @property
    def entry_floats(self) -> int:
        """Floats of one table."""
        return self.d << self.bits

    def decode(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        work = _Work(self, b, [pointers[id(t)] for t in self.tensors], strip, to)
        work.open()
        with b.loop(steps) as i:
            work.step(b.let(at + i, "s"), b.let(first + i * self.inputs_of_step, "k"), i)


@dataclass
class _Work:
    strips: PaletteStrips
    b: Builder
    pointers: list[Pointer]
    strip: Any
    to: Place

    def open(self) -> None:
        """Notes where the tables of the strip, or of each of its outputs, begin."""
        s, b = self.strips, self.b
        self.start: Any = int32(0)
        table = s.blocks * s.entry_floats
        if s.grouping == "strip":
            self.start = b.let(self.pointers[2].load(self.strip) * table, "table")
        elif s.grouping:
            self.starts = b.stack("int32", s.width)
            for output in range(0, s.width, s.d):
                number = self.pointers[2].load(self.strip * s.width + output)
                b.store(self.starts, output, number * table)

    def step(self, at: Any, first: Any, number: Any) -> None:
        """The step stored at `at`: inputs of the strip from `first`, step `number` of those decoded."""
        s, b = self.strips, self.b
        out = b.let(self.to.offset + number * (s.inputs_of_step * self.to.pitch), "to")
        _, steps, size = s.tensors[0].shape
        books = [
            PackedCodes(b, self.pointers[0], b.let((at + book * steps) * size), s.bits)
            for book in range(s.books)
        ]
        table: Any = int32(0)
        for vector in range(0, codes_per_step(s.bits), SIDE_BY_SIDE):
            codes = [b.stack("int32", SIDE_BY_SIDE) for _ in books]
            for slot, book in zip(codes, books, strict=True):
                b.store(slot, 0, book.vector(vector, SIDE_BY_SIDE))
            for i in range(SIDE_BY_SIDE):
                k, output = divmod((vector + i) * s.d, s.width)
                if output == 0 or i == 0:
                    table = self._table(first + k)
                start = table + self.starts.load(output) if s.grouping == "output" else table
                indices = [b.let(slot.load(i) * s.d + start) for slot in codes]
                self._add_up(indices, out + k * self.to.pitch + output)

    def _table(self, k: Any) -> Any:
        """Where the tables for input k begin, in floats."""
        s = self.strips
        if not s.block:
            return self.start
        number = tir.min(tir.truncdiv(k, int32(s.block)), int32(s.blocks - 1))
        return self.b.let(self.start + number * s.entry_floats)

    def _add_up(self, indices: list[Any], place: Any) -> None:
        """Stores the d weights of one code, of all books."""
        s, b = self.strips, self.b
        book_floats = s.tensors[1].shape[1] * s.blocks * s.entry_floats
        total = None
        for book, index in enumerate(indices):
            value = self.pointers[1].load(index + book * book_floats, s.d)
            total = value if total is None else total + value
        b.store(self.to.pointer, place, total)
