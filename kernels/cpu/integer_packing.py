"""The right side of an integer product packed when the model runs, as weights are when it is compiled.

    panel[tap 0] = right as int8, in the order of the dot product       panel[taps after] = constants
    bias[n] = -left zero point · Σ_k (right - its zero point)[k, n]

uint8 becomes int8 by x ^ 0x80. Less its zero point it would lie beyond int8, so this is multiplied apart:
each of `shifts` is a matrix of one value that meets the same activations once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .integer_dot import Dot
from .kernel import Kernel
from .lazy import Leaf
from .register_tile import tile_runs
from .tensor import Tensor

__all__ = ["PackColumns"]


@dataclass(eq=False)
class PackColumns(Kernel):
    """`source`: (groups, K, N) of int8 or uint8, with any strides; `out`: int8 panels of `vectors` strips.

    `bias`: int32, whole vectors for each group, or None where `zero_point` (of the left side) is 0.
    """

    source: Tensor
    out: Tensor
    bias: Tensor | None
    dot: Dot
    vectors: int
    shifts: tuple[int, ...]
    zero_point: int
    family = "pack"

    def reads(self) -> Sequence[Tensor]:
        return (self.source,)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,) if self.bias is None else (self.out, self.bias)

    @property
    def key(self) -> tuple[Any, ...]:
        own = (self.dot.name, self.vectors, self.shifts, self.zero_point if self.bias is not None else None)
        return ("pack-columns", *own, Leaf(self.source).key)

    @property
    def strips(self) -> int:
        """Vectors of columns."""
        return -(-self.source.shape[2] // self.dot.lanes)

    @property
    def steps(self) -> int:
        """Steps of one tap."""
        return -(-self.source.shape[1] // self.dot.depth)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        taps = 1 + len(self.shifts)
        step = self.dot.lanes * self.dot.depth
        with b.split(self.source.shape[0] * self.strips) as unit:
            g = b.let(tir.truncdiv(unit, int32(self.strips)), "g")
            strip = b.let(unit - g * self.strips, "strip")
            for first, width, count in tile_runs(self.strips, self.vectors):
                with b.when(tir.And(strip >= first, strip < first + width * count)):
                    panel = b.let(tir.truncdiv(strip - first, int32(width)) * width + first, "panel")
                    base = (g * self.strips + panel) * (taps * self.steps * step) + (strip - panel) * step
                    _Strip(self, b, pointers, g, strip, b.let(base, "base"), width * step).pack()


@dataclass
class _Strip:
    """One vector of columns; its steps lie `pitch` bytes apart from `base` on."""

    kernel: PackColumns
    b: Builder
    pointers: dict[int, Pointer]
    g: Any
    strip: Any
    base: Any
    pitch: int

    def pack(self) -> None:
        k, b = self.kernel, self.b
        lanes = k.dot.lanes
        self.totals = b.stack("int32", lanes)
        b.store(self.totals, 0, constant(0, "int32", lanes))
        ragged = k.source.shape[2] % lanes
        if not ragged:
            self._columns(whole=True)
        else:
            last = int32(k.strips - 1)
            if k.strips > 1:
                with b.when(self.strip < last):
                    self._columns(whole=True)
            with b.when(tir.EQ(self.strip, last)):
                self._columns(whole=False)
        for i, shift in enumerate(k.shifts):
            self._constant((1 + i) * k.steps, shift)
        if k.bias is not None:
            place = (self.g * k.strips + self.strip) * lanes
            factor = constant(-k.zero_point, "int32", lanes)
            b.store(self.pointers[id(k.bias)], place, self.totals.load(0, lanes) * factor)

    def _columns(self, *, whole: bool) -> None:
        k, b = self.kernel, self.b
        full, tail = divmod(k.source.shape[1], k.dot.depth)
        if full:
            with b.each(full) as step:
                self._step(step, k.dot.depth, whole)
        if tail:
            self._step(int32(full), tail, whole)

    def _step(self, step: Any, count: int, whole: bool) -> None:
        """`count` rows of the source, of `depth` that a step holds."""
        k, b, dot = self.kernel, self.b, self.kernel.dot
        source, (group, down, across) = self.pointers[id(k.source)], k.source.strides
        at = b.let(self.g * group + step * (dot.depth * down), "from")
        to = b.let(self.base + step * self.pitch, "to")
        if across == 1 and whole:
            rows = [
                self._octets(source.load(at + d * down + self.strip * dot.lanes, dot.lanes))
                if d < count
                else constant(0, "int8", dot.lanes)
                for d in range(dot.depth)
            ]
            order = [d * dot.lanes + lane for lane, d in _order(dot)]
            b.store(self.pointers[id(k.out)], to, tir.Shuffle(rows, [int32(i) for i in order]))
        else:
            self._gather(source, at, to, count, down, across)
        self._add(to)

    def _gather(self, source: Pointer, at: Any, to: Any, count: int, down: int, across: int) -> None:
        """Element by element, or in runs of `paired`; columns past the last are read as the last."""
        k, b, dot = self.kernel, self.b, self.kernel.dot
        out, last = self.pointers[id(k.out)], int32(k.source.shape[2] - 1)
        runs = down == 1 and count == dot.depth
        with b.loop(dot.lanes) as lane:
            column = b.let(at + tir.min(self.strip * dot.lanes + lane, last) * across)
            for d in range(0, dot.depth, dot.paired if runs else 1):
                part, place = divmod(d, dot.paired)
                target = to + (part * dot.lanes * dot.paired + place) + lane * dot.paired
                if d >= count:
                    b.store(out, target, constant(0, "int8"))
                    continue
                value = source.load(column + d * down, dot.paired if runs else 1)
                b.store(out, target, self._octets(value))

    def _octets(self, value: Any) -> Any:
        """int8 of what the source holds."""
        if self.kernel.source.dtype == "int8":
            return value
        dtype = str(value.ty.dtype)
        lanes = int(dtype.split("x")[1]) if "x" in dtype else 1
        turned = value ^ constant(128, "uint8", lanes)
        return tir.reinterpret(dtype.replace("uint8", "int8"), turned)

    def _add(self, place: Any) -> None:
        """Adds a packed step to the totals: its product with ones."""
        k, b, dot = self.kernel, self.b, self.kernel.dot
        if k.bias is None:
            return
        ones = constant(1, dot.reads, dot.lanes * dot.depth)
        packed = dot.weights(self.pointers[id(k.out)], place)
        b.store(self.totals, 0, dot.accumulate(b, self.totals.load(0, dot.lanes), ones, packed))

    def _constant(self, first: int, shift: int) -> None:
        """Steps of one value; rows past the last are 0."""
        k, b, dot = self.kernel, self.b, self.kernel.dot
        out, size = self.pointers[id(k.out)], dot.lanes * dot.depth
        full, tail = divmod(k.source.shape[1], dot.depth)
        if full:
            with b.each(full) as step:
                to = b.let(self.base + (step + first) * self.pitch)
                b.store(out, to, constant(shift, "int8", size))
                self._add(to)
        if tail:
            to = b.let(self.base + (first + full) * self.pitch)
            for i, (_, d) in enumerate(_order(dot)):
                b.store(out, to + i, constant(shift if d < tail else 0, "int8"))
            self._add(to)


def _order(dot: Dot) -> list[tuple[int, int]]:
    """(lane, depth) of the bytes of a packed step: [depth / paired][lanes][paired]."""
    parts = range(dot.depth // dot.paired)
    return [
        (lane, part * dot.paired + place)
        for part in parts
        for lane in range(dot.lanes)
        for place in range(dot.paired)
    ]
