"""Dot products of weights that are codes of 1 to 8 bits, unsigned, and activations rounded to 16 bits.

    total[lane] = start + Σ_i code[lane][i] · x[i]        exact in int32, for up to 256 inputs

A code fills a unit of a register, an octet or a word of 16 bits. Instructions that multiply octets do it
twice, for an activation is 256 · high + low, both int8:

    OctetDot       vpdpbusd, sdot: four products and an addition in every lane
    ShortDot       vpmaddubsw, i16x8.relaxed_dot, smlal: sums of 16 bits, which codes below 16 do not
                   overflow in 32 inputs, nor those below 32 in 16
    PairDot        vpmaddwd, i32x4.dot_i16x8, smlal: codes as words, activations whole

Activations are words of scratch: four int8, first the high ones of a chunk, then the low ones; or two int16.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .isa import Isa

__all__ = ["CodeDot", "DotSum", "code_dot"]


class DotSum(ABC):
    """The sum of one row of activations in one vector of outputs."""

    def __init__(self, b: Builder, dot: CodeDot) -> None:
        self.b, self.dot, self.lanes = b, dot, b.isa.lanes
        self.slots: list[Pointer] = []

    def slot(self, dtype: str, lanes: int) -> Pointer:
        """A place for a register."""
        found = self.b.stack(dtype, lanes)
        self.slots.append(found)
        return found

    @abstractmethod
    def start(self, value: Any) -> None:
        """Begins with a scalar, int32."""

    @abstractmethod
    def add(self, codes: Any, words: Sequence[Any]) -> None:
        """Adds the products of a register of codes; `words`: int32, of each part of the activations."""

    @abstractmethod
    def settle(self) -> None:
        """Follows every `block` inputs."""

    @abstractmethod
    def total(self) -> Any:
        """int32, all lanes."""


@dataclass(frozen=True)
class CodeDot(ABC):
    """`depth` inputs of each lane are in a register, `paired` of a lane beside each other.

    `unit`: bytes of a code in a register. Codes are `offset` less there than they are. Every `block` inputs a
    sum is to be settled.
    """

    isa: Isa
    name: str
    unit: int
    depth: int
    paired: int
    offset: int = 0
    block: int = 32

    @property
    def parts(self) -> int:
        """Integers that an activation is made of."""
        return 2 if self.unit == 1 else 1

    @property
    def octets(self) -> int:
        """Of a register."""
        return 4 * self.isa.lanes

    @abstractmethod
    def sum(self, b: Builder) -> DotSum:
        """A new sum."""


class OctetDot(CodeDot):
    """Two sums, of the high and of the low parts."""

    def sum(self, b: Builder) -> DotSum:
        return _OctetSum(b, self)


class _OctetSum(DotSum):
    def __init__(self, b: Builder, dot: CodeDot) -> None:
        super().__init__(b, dot)
        self.high, self.low = (self.slot("int32", self.lanes) for _ in range(2))

    def start(self, value: Any) -> None:
        self.b.store(self.high, 0, constant(0, "int32", self.lanes))
        self.b.store(self.low, 0, tir.Broadcast(value, self.lanes))

    def add(self, codes: Any, words: Sequence[Any]) -> None:
        for slot, word in zip((self.high, self.low), words, strict=True):
            self.b.store(slot, 0, self._product(slot.load(0, self.lanes), codes, word))

    def _product(self, before: Any, codes: Any, word: Any) -> Any:
        lanes, octets = self.lanes, self.dot.octets
        x = tir.reinterpret(f"int8x{octets}", tir.Broadcast(word, lanes))
        if self.dot.name == "sdot":
            signed = tir.reinterpret(f"int8x{octets}", codes)
            return tir.call_llvm_pure_intrin(
                "int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", before, signed, x
            )
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
        return tir.call_llvm_pure_intrin(f"int32x{lanes}", name, before, codes, x)

    def settle(self) -> None:
        return  # sums have 32 bits

    def total(self) -> Any:
        high = tir.shift_left(self.high.load(0, self.lanes), constant(8, "int32", self.lanes))
        return high + self.low.load(0, self.lanes)


class ShortDot(CodeDot):
    """Sums of 16 bits, two for each lane, that are added up in 32 bits when they are settled."""

    def sum(self, b: Builder) -> DotSum:
        return _ShortSum(b, self)


_SHORT_MOST = 31
_SHORT_PRODUCT = {
    4: "llvm.x86.ssse3.pmadd.ub.sw.128",
    8: "llvm.x86.avx2.pmadd.ub.sw",
    16: "llvm.x86.avx512.pmaddubs.w.512",
}
_PAIR_PRODUCT = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


class _ShortSum(DotSum):
    def __init__(self, b: Builder, dot: CodeDot) -> None:
        super().__init__(b, dot)
        self.short = [self.slot("int16", 2 * self.lanes) for _ in range(2)]
        self.whole = self.slot("int32", self.lanes)

    def start(self, value: Any) -> None:
        self.b.store(self.whole, 0, tir.Broadcast(value, self.lanes))
        self._clear()

    def _clear(self) -> None:
        for slot in self.short:
            self.b.store(slot, 0, constant(0, "int16", 2 * self.lanes))

    def add(self, codes: Any, words: Sequence[Any]) -> None:
        for slot, word in zip(self.short, words, strict=True):
            for product in self._products(codes, word):
                self.b.store(slot, 0, slot.load(0, 2 * self.lanes) + product)

    def _products(self, codes: Any, word: Any) -> list[Any]:
        """int16: pairs of products, or (NEON) those of two inputs and of the two others."""
        kind, octets = f"int16x{2 * self.lanes}", self.dot.octets
        if self.dot.isa.target.family in ("arm", "arm64"):
            pairs = tir.reinterpret("int16x2", word)
            return [
                _neon(
                    self.dot.isa, kind, "smull.v8i16", "vmulls.v8i16", _octets(codes, 8 * i), _pair(pairs, i)
                )
                for i in (0, 1)
            ]
        x = tir.reinterpret(f"int8x{octets}", tir.Broadcast(word, self.lanes))
        if self.dot.isa.target.family == "wasm":
            name = "llvm.wasm.relaxed.dot.i8x16.i7x16.signed"
            return [tir.call_llvm_pure_intrin(kind, name, x, tir.reinterpret(f"int8x{octets}", codes))]
        return [tir.call_llvm_pure_intrin(kind, _SHORT_PRODUCT[self.lanes], codes, x)]

    def settle(self) -> None:
        total = self.whole.load(0, self.lanes)
        for slot, factor in zip(self.short, (256, 1), strict=True):
            total = total + self._widened(slot.load(0, 2 * self.lanes), factor)
        self.b.store(self.whole, 0, total)
        self._clear()

    def _widened(self, short: Any, factor: int) -> Any:
        """Pairs of 16 bits added, times `factor`."""
        isa, kind = self.dot.isa, f"int32x{self.lanes}"
        if isa.target.family in ("arm", "arm64"):
            names = "saddlp.v4i32.v8i16", "vpaddls.v4i32.v8i16"
            added = _neon(isa, kind, *names, short)
            return tir.shift_left(added, constant(8, "int32", 4)) if factor == 256 else added
        factors = constant(factor, "int16", 2 * self.lanes)
        name = "llvm.wasm.dot" if isa.target.family == "wasm" else _PAIR_PRODUCT[self.lanes]
        return tir.call_llvm_pure_intrin(kind, name, short, factors)

    def total(self) -> Any:
        return self.whole.load(0, self.lanes)


class PairDot(CodeDot):
    """One sum; codes are int16."""

    def sum(self, b: Builder) -> DotSum:
        return _PairSum(b, self)


class _PairSum(DotSum):
    def __init__(self, b: Builder, dot: CodeDot) -> None:
        super().__init__(b, dot)
        self.whole = self.slot("int32", self.lanes)

    def start(self, value: Any) -> None:
        self.b.store(self.whole, 0, tir.Broadcast(value, self.lanes))

    def add(self, codes: Any, words: Sequence[Any]) -> None:
        isa, (word,), kind = self.dot.isa, words, f"int32x{self.lanes}"
        codes = tir.reinterpret(f"int16x{2 * self.lanes}", codes)
        if isa.target.family in ("arm", "arm64"):
            for i in (0, 1):
                x = tir.Shuffle([tir.reinterpret("int16x2", word)] * 2, [int32(i)] * 4)
                part = tir.Shuffle([codes], [int32(4 * i + j) for j in range(4)])
                product = _neon(isa, kind, "smull.v4i32", "vmulls.v4i32", part, x)
                self.b.store(self.whole, 0, self.whole.load(0, 4) + product)
            return
        x = tir.reinterpret(f"int16x{2 * self.lanes}", tir.Broadcast(word, self.lanes))
        name = "llvm.wasm.dot" if isa.target.family == "wasm" else _PAIR_PRODUCT[self.lanes]
        product = tir.call_llvm_pure_intrin(kind, name, codes, x)
        self.b.store(self.whole, 0, self.whole.load(0, self.lanes) + product)

    def settle(self) -> None:
        return  # the sum has 32 bits

    def total(self) -> Any:
        return self.whole.load(0, self.lanes)


def code_dot(isa: Isa, most: int) -> CodeDot:
    """The fastest for codes from 0 to `most`."""
    features, family = isa.features, isa.target.family
    if not {"+avx512vnni", "+avxvnni"}.isdisjoint(features):
        return OctetDot(isa, "vpdpbusd", 1, 4, 4)
    if family == "arm64" and "+dotprod" in features:
        return OctetDot(isa, "sdot", 1, 4, 4, offset=128 if most > 127 else 0)
    short = family != "wasm" or "+relaxed-simd" in features
    neon = family in ("arm", "arm64")
    if most <= _SHORT_MOST and short:
        block = 32 if most < 16 else 16  # whose products 16 bits hold: 128 · most · block / 2 at most
        return ShortDot(isa, "short", 1, 4, 2 if neon else 4, block=block)
    return PairDot(isa, "pairs", 2, 2, 1 if neon else 2)


def _octets(codes: Any, first: int) -> Any:
    half = tir.Shuffle([codes], [int32(first + i) for i in range(8)])
    return tir.reinterpret("int8x8", half)


def _pair(pairs: Any, number: int) -> Any:
    return tir.reinterpret("int8x8", tir.Shuffle([pairs] * 2, [int32(number)] * 4))


def _neon(isa: Isa, dtype: str, name: str, name32: str, *operands: Any) -> Any:
    """An instruction that AArch64 and ARM name differently."""
    full = f"llvm.aarch64.neon.{name}" if isa.target.family == "arm64" else f"llvm.arm.neon.{name32}"
    return tir.call_llvm_pure_intrin(dtype, full, *operands)
