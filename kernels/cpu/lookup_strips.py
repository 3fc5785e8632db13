"""Strips of weights that are palette indices, looked up in registers, whole vectors at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .decoded_panels import Place, StoredStrips
from .table_lookup import TableLookup

__all__ = ["LookupStrips"]


@dataclass(eq=False)
class LookupStrips(StoredStrips):
    """`tensors` are the codes [books, steps, items] as `lookup` packs them, the tables
    [books, groups, blocks, items], and where there are several groups their numbers int32 [strips].

    A table serves whole strips, or `block` inputs of them (0: all), which are whole steps.
    """

    lookup: TableLookup
    books: int
    block: int

    @property
    def key(self) -> tuple[Any, ...]:
        own = (self.lookup.key, self.books, self.block, self.width)
        return ("look-up", *own, *((t.dtype, t.shape) for t in self.tensors))

    def decode(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        codes, tables = (pointers[id(t)] for t in self.tensors[:2])
        _, all_steps, items = self.tensors[0].shape
        _, groups, blocks, _ = self.tensors[1].shape
        number = pointers[id(self.tensors[2])].load(strip) * blocks if groups > 1 else int32(0)

        def opened(block: Any) -> list[Any]:
            """The tables of all books, for a block of inputs."""
            starts = [
                b.let((number + block + book * (groups * blocks)) * self.lookup.table_items)
                for book in range(self.books)
            ]
            return [self.lookup.open(b, tables, start) for start in starts]

        known = None if self.block else opened(int32(0))
        with b.loop(steps) as i:
            k = b.let(i * self.inputs_of_step)
            table = known or opened(b.let(tir.min((first + k) // self.block, int32(blocks - 1))))
            entries = [
                self.lookup.look(b, codes, b.let((at + i + book * all_steps) * items), table[book])
                for book in range(self.books)
            ]
            out = b.let(to.offset + k * to.pitch, "to")
            pitch = to.pitch if self.width == b.isa.lanes else b.isa.lanes
            assert self.width == b.isa.lanes or to.pitch == self.width
            for v in range(self.lookup.vectors):
                total = entries[0](v)
                for entry in entries[1:]:
                    total = total + entry(v)
                b.store(to.pointer, out + v * pitch, total)
