"""Tables of up to 64 float32 as bytes in registers, where none permutes float32 (SSE, NEON, WebAssembly)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .code_lookup import Look, TableLookup, padded_tables
from .code_stream import CodeStream

__all__ = ["BytePlanes", "octet_lookup"]

Array = npt.NDArray[Any]
_PSHUFB = {
    16: "llvm.x86.ssse3.pshuf.b.128",
    32: "llvm.x86.avx2.pshuf.b",
    64: "llvm.x86.avx512.pshuf.b.512",
}


@dataclass(frozen=True)
class BytePlanes(TableLookup):
    """Up to 64 entries: the same byte of 16 of them is a register, looked up for a register of codes at once.

    A look-up in a register gives zero where the code is not among its 16, so that those of several are added.

    `first` is the lowest byte that is not zero in every entry: 1 for values that are exact in float16, 2 for
    those of 8 bits. Interleaving bytes, then pairs of bytes, of a register of codes gives four vectors.
    """

    first: int = 0

    @property
    def key(self) -> tuple[Any, ...]:
        return (*super().key, self.first)

    @property
    def _octets(self) -> int:
        return 4 * self.isa.lanes

    @property
    def stream(self) -> CodeStream:
        return CodeStream(self.bits, 8, self._octets)

    @property
    def vectors(self) -> int:
        return 4 * self.stream.codes

    def pack(self, codes: Array) -> Array:
        lead = codes.shape[:-2]
        vectors = codes.reshape(*lead, self.stream.codes, self._octets)
        places = np.empty(self._octets, np.int64)  # of the codes in the order of the entries
        places[self._order()] = np.arange(self._octets)
        packed = self.stream.pack(vectors[..., places])
        return packed.reshape(*lead, -1)

    def _order(self) -> Array:
        """The code that gives each entry of four vectors: what the code below does, on numbers of codes."""
        order = []
        for half in (0, 1):
            low = np.tile(np.arange(self._octets), 2)[_interleaved(self._octets, 1)[half]][::2]
            if self.first == 2:
                order += [low[0::2], low[1::2]]
            else:
                pairs = np.tile(np.repeat(low, 2), 2)
                order += [pairs[_interleaved(self._octets, 2)[side]][::4] for side in (0, 1)]
        return np.concatenate(order)

    @property
    def _registers(self) -> int:
        """Of a plane."""
        return max(1, (1 << self.bits) // 16)

    def tables(self, luts: Array) -> Array:
        """For each table the planes from `first` on, 16 bytes each (twice, side by side, in 256 bits)."""
        entries = padded_tables(luts, 16 * self._registers).view(np.uint8)
        octets = entries.reshape(len(luts), self._registers, 16, 4)[..., self.first :]
        turned = octets.transpose(0, 3, 1, 2)
        return np.tile(turned, (1, 1, 1, self._octets // 16)).reshape(len(luts), -1)

    def open(self, b: Builder, table: Pointer, at: Any) -> list[Any]:
        """Four planes of several registers each, None for those that are zero."""
        count, each = self._octets, self._registers
        loads = [b.let(table.load(at + i * count, count)) for i in range((4 - self.first) * each)]
        return [None] * self.first + [loads[i : i + each] for i in range(0, len(loads), each)]

    def look(self, b: Builder, codes: Pointer, at: Any, table: list[Any]) -> Look:
        count = self._octets
        words = [b.let(codes.load(at + i * count, count)) for i in range(self.stream.words)]
        planes: list[Any] = []  # of the last register of codes
        pairs: list[Any] = []  # the half of it that is being interleaved

        def entry(number: int) -> Any:
            code, quarter = divmod(number, 4)
            half, side = divmod(quarter, 2)
            if quarter == 0:
                indices = self._indices(b, b.hold(self.stream.code(words, code)))
                planes[:] = [None if plane is None else self._plane(b, plane, indices) for plane in table]
            if side == 0:  # not both halves at once: registers are few
                pairs[:] = [self._interleave(b, planes[i : i + 2], 1, half) for i in (0, 2)]
            found = (
                self._upper_halves(pairs[1], side) if self.first == 2 else self._interleave(b, pairs, 2, side)
            )
            return tir.reinterpret(f"float32x{self.isa.lanes}", found)

        return entry

    def _indices(self, b: Builder, code: Any) -> list[Any]:
        """For each register of a plane the place in it, or one from which a look-up gives zero."""
        count = self._octets
        if self._registers == 1:
            return [code]
        places = [code ^ constant(16 * i, "uint8", count) if i else code for i in range(self._registers)]
        if self.isa.target.family == "x86":  # zero from 128 on, not from 16 on
            places = [place + constant(0x70, "uint8", count) for place in places]
        return [b.hold(place) for place in places]

    def _plane(self, b: Builder, registers: list[Any], indices: list[Any]) -> Any:
        pairs = zip(registers, indices, strict=True)
        found = [octet_lookup(b, register, index, self._registers > 1) for register, index in pairs]
        total = found[0]
        for more in found[1:]:
            total = total | more
        return b.hold(total)

    def _upper_halves(self, pairs: Any, side: int) -> Any:
        """Every other pair of bytes as the upper half of 32 bits: cheaper than an interleaving with zeros."""
        lanes = self.isa.lanes
        whole = tir.reinterpret(f"uint32x{lanes}", pairs)
        if side == 1:
            return whole & constant(0xFFFF0000, "uint32", lanes)
        return whole << constant(16, "uint32", lanes)

    def _interleave(self, b: Builder, both: list[Any], width: int, side: int) -> Any:
        """Items of `width` bytes of `both` in turns, of lower halves or (side 1) upper; None is zero."""
        if both[0] is None and both[1] is None:
            return None
        zero = constant(0, "uint8", self._octets)
        order = _interleaved(self._octets, width)[side]
        vectors = [zero if vector is None else vector for vector in both]
        return b.hold(tir.Shuffle(vectors, [int32(int(i)) for i in order]))


def _interleaved(octets: int, width: int) -> tuple[Array, Array]:
    """Which bytes of two registers, numbered through, stand where: lower halves interleaved, upper halves.

    Halves are those of every 128 bits, which is what x86 interleaves in one instruction.
    """
    items = np.arange(2 * octets).reshape(2, octets // 16, 2, 8 // width, width)
    turns = items.transpose(2, 1, 3, 0, 4)  # half, 128 bits, item, register, byte
    return turns[0].reshape(-1), turns[1].reshape(-1)


def octet_lookup(b: Builder, table: Any, code: Any, beyond: bool) -> Any:
    """`table[code]` for every byte of `code`, below 16; `beyond`: zero elsewhere (on x86 from 128 on).

    `table` fills a register: 16 entries, again for every 128 bits.
    """
    isa, count = b.isa, 4 * b.isa.lanes
    kind = f"uint8x{count}"
    if isa.target.family == "x86":
        return tir.call_llvm_pure_intrin(kind, _PSHUFB[count], table, code)
    if isa.target.family == "arm64":
        return tir.call_llvm_pure_intrin(kind, "llvm.aarch64.neon.tbl1", table, code)
    if isa.target.family == "wasm":
        relaxed = "+relaxed-simd" in isa.features and not beyond
        return tir.call_llvm_pure_intrin(
            kind, f"llvm.wasm.{'relaxed.' if relaxed else ''}swizzle", table, code
        )
    low, high = (tir.vectorlow("uint8x8", table), tir.vectorhigh("uint8x8", table))
    halves = [
        tir.call_llvm_pure_intrin("uint8x8", "llvm.arm.neon.vtbl2", low, high, half)
        for half in (tir.vectorlow("uint8x8", code), tir.vectorhigh("uint8x8", code))
    ]
    return tir.vectorcombine(kind, *halves)
