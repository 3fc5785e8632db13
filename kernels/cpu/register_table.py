"""Tables of float32 in registers, a code being a lane; and tables in memory where registers are too few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx as tir

from .builder import Builder, Pointer, constant
from .code_lookup import Look, TableLookup, padded_tables
from .code_stream import CodeStream

__all__ = ["MemoryTable", "PermutedTable"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class PermutedTable(TableLookup):
    """The table in registers of one entry per lane: the code is the lane (vpermps, vpermi2ps)."""

    @property
    def stream(self) -> CodeStream:
        return CodeStream(self.bits, 32, self.isa.lanes)

    @property
    def vectors(self) -> int:
        return self.stream.codes

    def pack(self, codes: Array) -> Array:
        packed = self.stream.pack(codes)
        return packed.reshape(*packed.shape[:-2], -1)

    @property
    def _entries(self) -> int:
        return max(1 << self.bits, self.isa.lanes)

    def tables(self, luts: Array) -> Array:
        """Repeated to a whole register, so that bits above the code do not matter."""
        padded = padded_tables(luts, 1 << self.bits)
        return np.tile(padded, (1, self._entries // padded.shape[1]))

    def open(self, b: Builder, table: Pointer, at: Any) -> list[Any]:
        lanes = self.isa.lanes
        return [b.let(table.load(at + i, lanes)) for i in range(0, self._entries, lanes)]

    def look(self, b: Builder, codes: Pointer, at: Any, table: list[Any]) -> Look:
        lanes = self.isa.lanes
        words = [b.let(codes.load(at + i * lanes, lanes)) for i in range(self.stream.words)]
        return lambda number: self._entry(b, self.stream.shifted(words, number), table)

    def _entry(self, b: Builder, code: Any, table: list[Any]) -> Any:
        lanes = self.isa.lanes
        kind = f"float32x{lanes}"
        if len(table) == 1:
            name = "llvm.x86.avx512.permvar.sf.512" if lanes == 16 else "llvm.x86.avx2.permps"
            return tir.call_llvm_pure_intrin(kind, name, table[0], code)
        code = b.hold(code)
        found = [
            tir.call_llvm_pure_intrin(kind, "llvm.x86.avx512.vpermi2var.ps.512", low, code, high)
            for low, high in zip(table[::2], table[1::2], strict=True)
        ]
        bit = 2 * lanes
        while len(found) > 1:
            upper = tir.NE(code & constant(bit, "uint32", lanes), constant(0, "uint32", lanes))
            found = [tir.Select(upper, high, low) for low, high in zip(found[::2], found[1::2], strict=True)]
            bit *= 2
        return found[0]


@dataclass(frozen=True)
class MemoryTable(TableLookup):
    """One load from the table for each code."""

    @property
    def stream(self) -> CodeStream:
        return CodeStream(self.bits, 32, 1)

    @property
    def vectors(self) -> int:
        return max(1, self.stream.codes // self.isa.lanes)

    def pack(self, codes: Array) -> Array:
        lead = codes.shape[:-2]
        packed = self.stream.pack(codes.reshape(*lead, -1, self.stream.codes, 1))
        return packed.reshape(*lead, -1)

    def tables(self, luts: Array) -> Array:
        return padded_tables(luts, 1 << self.bits)

    def open(self, b: Builder, table: Pointer, at: Any) -> tuple[Pointer, Any]:
        return table, at

    def look(self, b: Builder, codes: Pointer, at: Any, table: tuple[Pointer, Any]) -> Look:
        words = [b.let(codes.load(at + i)) for i in range(self.stream.words * self._groups)]
        entries, start = table

        def load(lane: int) -> Any:
            group, number = divmod(lane, self.stream.codes)
            own = words[group * self.stream.words :]
            return entries.load(start + tir.Cast("int32", self.stream.code(own, number)))

        lanes = self.isa.lanes
        return lambda number: _gathered(b, [load(number * lanes + lane) for lane in range(lanes)])

    @property
    def _groups(self) -> int:
        """Groups of the stream that make one vector or more."""
        return max(1, self.isa.lanes // self.stream.codes)


def _gathered(b: Builder, scalars: list[Any]) -> Any:
    """Scalars as a vector; the stack place becomes a register."""
    place = b.stack("float32", len(scalars))
    for lane, scalar in enumerate(scalars):
        b.store(place, lane, scalar)
    return place.load(0, len(scalars))
