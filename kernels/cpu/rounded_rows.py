"""Rows of activations rounded to 16 bits, a scale for each chunk, in scratch.

    x ~ scale · q        |q| <= 32639 = 127 · 256 + 127

The error is at most 1 / 65278 of the largest activation of a chunk. In root mean square results are off by
3e-5 of their standard deviation where activations are normally distributed, by 5e-5 where one of them is all
there is in a chunk of 32; the worst of thousands is off by four times that, which verification measures
against the results' whole range. A chunk takes in words of scratch: q (`code_dot` says how), the scale, and
Σ q times minus a zero point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, vector_type
from .chunked_inputs import ChunkedInputs

__all__ = ["RoundedRows"]

_MOST = 32639
_MAGIC = 12582912.0  # 1.5 · 2**23: a sum with it is rounded to a whole number, which its lowest bits are
_MAGIC_BITS = 0x4B400000
_LEAST = 1e-30  # chunks below are zero


@dataclass(frozen=True)
class RoundedRows:
    """`parts` integers an activation; `zero` is what every zero point of the weight is."""

    chunks: ChunkedInputs
    parts: int
    zero: int

    @property
    def pitch(self) -> int:
        """Words of a chunk."""
        return self.chunks.size // 2 + 2

    @property
    def row(self) -> int:
        """Words of a row."""
        return self.chunks.count * self.pitch

    @property
    def scale_at(self) -> int:
        """Of a chunk: the word of its scale, before that of its sum."""
        return self.chunks.size // 2

    def write(self, b: Builder, left: Pointer, source: Any, scratch: Pointer, to: Any) -> None:
        """One row that starts at `source`."""
        size, first, place = self.chunks.size, 0, 0
        for count, length, chunks in self.chunks.runs:
            whole, rest = divmod(length, size)
            with b.each(count) as group:
                origin = b.let(source + (group * length + first))
                target = b.let(to + (group * chunks + place) * self.pitch)
                if whole:
                    with b.each(whole) as chunk:
                        self._chunk(
                            b,
                            left,
                            b.let(origin + chunk * size),
                            size,
                            scratch,
                            b.let(target + chunk * self.pitch),
                        )
                if rest:
                    self._chunk(
                        b,
                        left,
                        b.let(origin + whole * size),
                        rest,
                        scratch,
                        b.let(target + whole * self.pitch),
                    )
            first, place = first + count * length, place + count * chunks

    def _chunk(self, b: Builder, left: Pointer, source: Any, count: int, scratch: Pointer, at: Any) -> None:
        lanes = b.isa.lanes
        values = [
            _loaded(b, left, source + v, min(lanes, max(0, count - v)))
            for v in range(0, self.chunks.size, lanes)
        ]
        largest = _largest(b, values)
        inverse = b.let(
            tir.Select(
                largest > tir.const(_LEAST, "float32"),
                tir.const(float(_MOST), "float32") / largest,
                tir.const(0.0, "float32"),
            )
        )
        total = None
        for v, value in enumerate(values):
            moved = value * tir.Broadcast(inverse, lanes) + constant(_MAGIC, "float32", lanes)
            whole = tir.reinterpret(vector_type("int32", lanes), b.hold(moved)) - constant(
                _MAGIC_BITS, "int32", lanes
            )
            whole = b.hold(whole)
            total = whole if total is None else b.hold(total + whole)
            self._store(b, scratch, at, v, whole)
        b.store(scratch, at + self.scale_at, largest * tir.const(1 / _MOST, "float32"))
        if self.zero == 0:
            b.store(scratch, at + self.scale_at + 1, tir.const(0.0, "float32"))
            return
        final = _reduced(b, total, "int32", lambda x, y: x + y) * -self.zero
        b.store(scratch, at + self.scale_at + 1, tir.reinterpret("float32", final))

    def _store(self, b: Builder, scratch: Pointer, at: Any, number: int, whole: Any) -> None:
        lanes = b.isa.lanes
        if self.parts == 1:
            _store_words(b, scratch, at + number * lanes // 2, tir.Cast(f"int16x{lanes}", whole), lanes // 2)
            return
        eight = constant(8, "int32", lanes)
        high = b.hold(tir.shift_right(whole + constant(128, "int32", lanes), eight))
        low = whole - tir.shift_left(high, eight)
        for part, value in enumerate((high, low)):
            place = at + part * self.chunks.size // 4 + number * lanes // 4
            _store_words(b, scratch, place, tir.Cast(f"int8x{lanes}", value), lanes // 4)


def _store_words(b: Builder, scratch: Pointer, at: Any, value: Any, words: int) -> None:
    b.store(scratch, at, tir.reinterpret(vector_type("float32", words), value))


def _loaded(b: Builder, left: Pointer, at: Any, count: int) -> Any:
    """A vector, zero from lane `count` on."""
    lanes = b.isa.lanes
    if count == lanes:
        return b.hold(left.load(at, lanes))
    if count == 0:
        return constant(0.0, "float32", lanes)
    slot = b.stack("float32", lanes)
    b.store(slot, 0, constant(0.0, "float32", lanes))
    for lane in range(count):
        b.store(slot, lane, left.load(at + lane))
    return slot.load(0, lanes)


def _largest(b: Builder, values: list[Any]) -> Any:
    """The largest magnitude; what is not a number is larger than all, as integers are compared."""
    lanes = b.isa.lanes
    kind, most = vector_type("int32", lanes), None
    for value in values:
        size = tir.reinterpret(kind, value) & constant(0x7FFFFFFF, "int32", lanes)
        most = b.hold(size if most is None else tir.max(most, size))
    return b.let(tir.reinterpret("float32", _reduced(b, most, "int32", tir.max)))


def _reduced(b: Builder, value: Any, dtype: str, join: Any) -> Any:
    """All lanes joined, in halves."""
    lanes = b.isa.lanes
    while lanes > 1:
        slot = b.stack(dtype, lanes)
        b.store(slot, 0, value)
        lanes //= 2
        value = b.let(join(slot.load(0, lanes), slot.load(lanes, lanes)))
    return value
