"""Dot products of 8-bit integers, as many at once as a vector register has int32 lanes.

    acc[lane] += Σ_d x[d] · w[lane][d]      d < depth, exact in int32

`x` are activations that all lanes share, `w` weights of one output in each lane. Which instructions do it:

    VnniDot       vpdpbusd: uint8 · int8, 4 deep (AVX-512 VNNI, AVX-VNNI)
    PairDot       pmaddwd, i32x4.dot_i16x8: int16 · int16, 2 deep (SSE to AVX-512, WebAssembly)
    LaneDot       sdot, usdot by lane of a register: 4 deep (AArch64 with dot product, i8mm)
    WideningDot   smull, smlal, sadalp: int8 products paired in int16, 4 deep (every NEON)
    LongDot       smlal: int16 · int16, 2 deep (NEON, weights beyond int8)

Nothing saturates: vpmaddubsw, and WebAssembly's relaxed dot product, which becomes that, are exact only where
one side has 7 bits. On x86 they cost as much as two exact products of half the depth anyway.

Some instructions read only one signedness, or int16. `broadcast` and `broadcasts` convert while they load; a
kernel that reads activations more than a few times does so once, into scratch of `dot.reads`, and loads from
there. Where `flip` is true the conversion is `x ^ 0x80`, which moves the zero point: `dot.zero_point`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32, lanes_of, scalar_type, vector_type
from .isa import Isa

__all__ = ["Dot", "integer_dot"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Dot:
    """One way to multiply; `reads` is the type of the activations that it multiplies.

    `depth` activations and, for each lane, as many weights are summed at once. `paired` of a lane's weights
    are neighbours in packed weights. `steps` are best taken together by `broadcasts`.
    """

    isa: Isa
    name: str
    depth: int
    reads: str
    activations: str
    weight_dtype: str = "int8"
    paired: int = 4
    steps: int = 1

    @property
    def lanes(self) -> int:
        """Outputs that are summed at once."""
        return self.isa.lanes

    @property
    def key(self) -> tuple[str, str, str]:
        """What a kernel's code depends on, besides the instruction set."""
        return (self.name, self.activations, self.weight_dtype)

    @property
    def flip(self) -> bool:
        """Whether activations are read with the other signedness, 128 higher or lower."""
        return self.reads != self.activations and self.reads != "int16"

    def zero_point(self, value: Any) -> Any:
        """The zero point of activations as they are read."""
        if not self.flip:
            return value
        return value + (128 if self.reads == "uint8" else -128)

    def pack(self, weights: Array) -> Array:
        """Weights (outputs, inputs) as (strips, steps, lanes * depth), zero where the last ones end.

        A step holds [depth / paired][lanes][paired].
        """
        outputs, inputs = weights.shape
        strips, steps = -(-outputs // self.lanes), -(-inputs // self.depth)
        padded = np.zeros((strips * self.lanes, steps * self.depth), self.weight_dtype)
        padded[:outputs, :inputs] = weights
        parts = padded.reshape(strips, self.lanes, steps, self.depth // self.paired, self.paired)
        return parts.transpose(0, 2, 3, 1, 4).reshape(strips, steps, -1).copy()

    def weights(self, source: Pointer, offset: Any) -> Any:
        """The packed weights of one step, which start at `offset`."""
        return self._operand(source.load(offset, self.lanes * self.depth))

    def broadcast(self, b: Builder, source: Pointer, offset: Any) -> Any:
        """`depth` activations from `offset` on, repeated for all lanes."""
        return self._repeated(self._converted(source.load(offset, self.depth)))

    def broadcasts(self, b: Builder, source: Pointer, offset: Any, count: int) -> Callable[[int], Any]:
        """`broadcast` of `count` steps that follow one another: step i by calling with i."""
        return lambda i: self.broadcast(b, source, offset + i * self.depth)

    def accumulate(self, b: Builder, acc: Any, x: Any, w: Any) -> Any:
        """`acc` (int32, lanes) with the products of one step; `w` as `weights` gives them, or as packed.

        Where `paired` is `depth`, x may also differ from lane to lane and w be the same in all.
        """
        raise NotImplementedError

    def words(self, source: Pointer, offset: Any, count: int) -> Any:
        """`count` steps' activations from `offset` on, side by side in one vector, as they are read."""
        return self._converted(source.load(offset, count * self.depth))

    def repeated_weights(self, word: Any) -> Any:
        """The weights of one output and step, an int32 of which they are the bytes, for every lane."""
        dtype = "int16" if self.reads == "int16" else "int8"
        return tir.reinterpret(f"{dtype}x{self.lanes * self.depth}", tir.Broadcast(word, self.lanes))

    def _operand(self, w: Any) -> Any:
        return w

    def _repeated(self, activations: Any) -> Any:
        word = tir.reinterpret("int32", activations)
        return tir.reinterpret(f"{self.reads}x{self.lanes * self.depth}", tir.Broadcast(word, self.lanes))

    def _converted(self, activations: Any) -> Any:
        """Activations of a model's type or of `reads`, as `reads`."""
        dtype, count = scalar_type(activations), lanes_of(activations)
        if dtype == self.reads:
            return activations
        if self.reads == "int16":
            return tir.Cast(f"int16x{count}", activations)
        return tir.reinterpret(f"{self.reads}x{count}", activations ^ _sign(dtype, count))


class VnniDot(Dot):
    """vpdpbusd: four uint8 · int8 products and an addition in every lane."""

    def accumulate(self, b: Builder, acc: Any, x: Any, w: Any) -> Any:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
        return tir.call_llvm_pure_intrin(f"int32x{self.lanes}", name, acc, x, w)


class PairDot(Dot):
    """Two int16 · int16 products in every lane, added to the sum by a second instruction.

    Weights that fit in int8 are stored so, and widened while they are loaded.
    """

    def accumulate(self, b: Builder, acc: Any, x: Any, w: Any) -> Any:
        name = "llvm.wasm.dot"
        if self.isa.target.family == "x86":
            name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[self.lanes]
            name = f"llvm.x86.{name}"
        return acc + tir.call_llvm_pure_intrin(f"int32x{self.lanes}", name, x, self._operand(w))

    def _operand(self, w: Any) -> Any:
        return w if scalar_type(w) == "int16" else tir.Cast(f"int16x{lanes_of(w)}", w)


class LaneDot(Dot):
    """sdot or usdot: the activations of a step are a lane of a register that holds those of four."""

    def accumulate(self, b: Builder, acc: Any, x: Any, w: Any) -> Any:
        operands = (x, w) if self.reads == "uint8" else (w, x)
        instruction = "usdot" if self.reads == "uint8" else "sdot"
        name = f"llvm.aarch64.neon.{instruction}.v4i32.v16i8"
        return tir.call_llvm_pure_intrin("int32x4", name, acc, *operands)

    def broadcasts(self, b: Builder, source: Pointer, offset: Any, count: int) -> Callable[[int], Any]:
        return _lanes(self, b, source, offset, count)


class WideningDot(Dot):
    """Products of int8 are added in pairs as int16, whose pairs are added as int32."""

    def accumulate(self, b: Builder, acc: Any, x: Any, w: Any) -> Any:
        names = ("smull.v8i16", "vmulls.v8i16")
        halves = [_neon(self.isa, "int16x8", names, _part(w, 8 * i, 8), _part(x, 8 * i, 8)) for i in (0, 1)]
        if self.name == "smlal-sadalp":
            return _pairs_added(self.isa, acc, halves[0] + halves[1])
        return _pairs_added(self.isa, _pairs_added(self.isa, acc, halves[0]), halves[1])

    def broadcasts(self, b: Builder, source: Pointer, offset: Any, count: int) -> Callable[[int], Any]:
        parts = list(_loaded(self, b, source, offset, count))
        return lambda i: self._repeated(*parts[i])

    def _repeated(self, activations: Any, first: int = 0) -> Any:
        """Two of four activations in each half of a register; the four start at `first` of a vector."""
        places = [first + 2 * half + i % 2 for half in (0, 1) for i in range(8)]
        enough = [activations] * (16 // lanes_of(activations))  # a shuffle gives no more lanes than it takes
        return tir.Shuffle(enough, [int32(place) for place in places])


class LongDot(Dot):
    """Products of int16, added as int32."""

    def accumulate(self, b: Builder, acc: Any, x: Any, w: Any) -> Any:
        for i in (0, 1):
            one = tir.Shuffle([x], [int32(i)] * 4)
            acc = acc + _neon(self.isa, "int32x4", ("smull.v4i32", "vmulls.v4i32"), _part(w, 4 * i, 4), one)
        return acc

    def broadcasts(self, b: Builder, source: Pointer, offset: Any, count: int) -> Callable[[int], Any]:
        return _lanes(self, b, source, offset, count)


def integer_dot(isa: Isa, activation_dtype: str, weight_range: tuple[int, int]) -> Dot:
    """The fastest exact dot product of "int8" or "uint8" activations with weights in `weight_range`.

    Both ends of the range may occur; weights beyond int8 (those less their zero point are) lie as int16.
    """
    assert activation_dtype in ("int8", "uint8"), activation_dtype
    low, high = weight_range
    octets = low >= -128 and high <= 127
    if isa.target.family in ("arm64", "arm"):
        return _arm_dot(isa, activation_dtype, octets, low)
    if octets and not {"+avx512vnni", "+avxvnni"}.isdisjoint(isa.features):
        return VnniDot(isa, "vpdpbusd", 4, "uint8", activation_dtype)
    name = "vpmaddwd" if isa.target.family == "x86" else "dot_i16x8"
    return PairDot(isa, name, 2, "int16", activation_dtype, "int8" if octets else "int16", paired=2)


def _arm_dot(isa: Isa, activation_dtype: str, octets: bool, low: int) -> Dot:
    if not octets:
        return LongDot(isa, "smlal", 2, "int16", activation_dtype, "int16", paired=1, steps=4)
    if "+i8mm" in isa.features and activation_dtype == "uint8":
        return LaneDot(isa, "usdot", 4, "uint8", activation_dtype, steps=4)
    if "+dotprod" in isa.features:
        return LaneDot(isa, "sdot", 4, "int8", activation_dtype, steps=4)
    # two products -128 * -128 are one more than int16 holds
    name = "smlal-sadalp" if low > -128 else "smull-sadalp"
    return WideningDot(isa, name, 4, "int8", activation_dtype, paired=2, steps=4)


def _loaded(dot: Dot, b: Builder, source: Pointer, offset: Any, count: int) -> Iterator[tuple[Any, int]]:
    """For each step a vector and where in it its activations start; a vector serves four, two or one."""
    done = 0
    while done < count:
        many = next(n for n in (4, 2, 1) if done + n <= count)
        loaded = source.load(offset + done * dot.depth, many * dot.depth)
        vector = b.let(dot._converted(loaded), "xv")
        yield from ((vector, i * dot.depth) for i in range(many))
        done += many


def _lanes(dot: Dot, b: Builder, source: Pointer, offset: Any, count: int) -> Callable[[int], Any]:
    """Steps as lanes of registers."""
    parts = list(_loaded(dot, b, source, offset, count))

    def step(i: int) -> Any:
        vector, first = parts[i]
        lanes = lanes_of(vector) // dot.depth
        word = tir.reinterpret(vector_type("int32", lanes), vector)
        word = word if lanes == 1 else tir.Shuffle([word], [int32(first // dot.depth)])
        return tir.reinterpret(f"{dot.reads}x{dot.lanes * dot.depth}", tir.Broadcast(word, dot.lanes))

    return step


def _sign(dtype: str, lanes: int) -> Any:
    return constant(128 if dtype == "uint8" else -128, dtype, lanes)


def _part(vector: Any, first: int, count: int) -> Any:
    return tir.Shuffle([vector], [int32(first + i) for i in range(count)])


def _pairs_added(isa: Isa, acc: Any, products: Any) -> Any:
    if isa.target.family == "arm":
        return tir.call_llvm_pure_intrin("int32x4", "llvm.arm.neon.vpadals.v4i32.v8i16", acc, products)
    return acc + tir.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)


def _neon(isa: Isa, dtype: str, names: tuple[str, str], *operands: Any) -> Any:
    """An instruction that AArch64 and ARM name differently."""
    prefix = "llvm.aarch64.neon." if isa.target.family == "arm64" else "llvm.arm.neon."
    name = names[0] if isa.target.family == "arm64" else names[1]
    return tir.call_llvm_pure_intrin(dtype, prefix + name, *operands)
