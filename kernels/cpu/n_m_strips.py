"""Strips of weights of which N of every M inputs are stored: each is put where its position says.

A step is a few groups of M input channels, with all T taps of each: `groups` · M · T inputs. Its tensors:

    values     float32 [steps, T, groups, N, width]
    positions  uint8, uint16 or uint32 [steps, T, width]   of a tap's groups and slots, lowest bits first
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32, vector_type
from .decoded_panels import Place, StoredStrips

__all__ = ["NMStrips"]


@dataclass(eq=False)
class NMStrips(StoredStrips):
    """N = `kept` of M = `of`, `bits` for a position."""

    kept: int
    of: int
    bits: int
    groups: int
    taps: int

    @property
    def key(self) -> tuple[Any, ...]:
        own = (self.kept, self.of, self.groups, self.taps, self.width)
        return ("n-m", *own, self.tensors[1].dtype)

    def decode(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        values, positions = (pointers[id(tensor)] for tensor in self.tensors)
        with b.loop(steps) as i, b.loop(self.taps) as tap:
            number = b.let((at + i) * self.taps + tap)
            loaded = positions.load(number * self.width, self.width)
            word = b.hold(tir.Cast(vector_type("int32", self.width), loaded))
            place = b.let(to.offset + (i * self.inputs_of_step + tap) * to.pitch)
            value = b.let(number * (self.groups * self.kept * self.width))
            for group in range(self.groups):
                self._group(b, values, word, value, group, to.pointer, place, to.pitch * self.taps)

    def _group(
        self,
        b: Builder,
        values: Pointer,
        word: Any,
        value: Any,
        group: int,
        out: Pointer,
        place: Any,
        pitch: int,
    ) -> None:
        """Writes the M inputs of a group, `pitch` apart."""
        width, zero = self.width, constant(0.0, "float32", self.width)
        slots = []
        for slot in range(group * self.kept, (group + 1) * self.kept):
            shifted = tir.shift_right(word, constant(slot * self.bits, "int32", width))
            position = b.hold(tir.bitwise_and(shifted, constant((1 << self.bits) - 1, "int32", width)))
            slots.append((position, b.hold(values.load(value + slot * width, width))))
        for m in range(self.of):
            total = zero
            for position, weight in slots:
                total = tir.Select(tir.EQ(position, constant(m, "int32", width)), weight, total)
            b.store(out, place + int32((group * self.of + m) * pitch), total)
