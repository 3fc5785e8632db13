"""Strips of groups in 4 bits: those that survive are decoded along the inputs, each into its output's place.

A step is G inputs of all outputs of a strip, a group of each. Its tensors, of the n groups that survive, in
the order of the steps:

    starts  int32 [steps + 1]     groups of all steps before each
    levels  uint8 [n, G / 2]      byte j: level j, above it level j + G / 2
    scales  float16 bits, uint16 [n]
    places  uint8 [n]             output of the strip, above it the zero point
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, int32, vector_type
from .decoded_panels import Place, StoredStrips
from .half import load_half

__all__ = ["GroupStrips"]

_BYTES = 8  # that are decoded together


@dataclass(eq=False)
class GroupStrips(StoredStrips):
    """Groups of `size` inputs."""

    size: int

    @property
    def key(self) -> tuple[Any, ...]:
        return ("group-sparse", self.size, self.width)

    def decode(
        self, b: Builder, pointers: dict[int, Any], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        starts = pointers[id(self.tensors[0])]
        zero = constant(0.0, "float32", self.width)
        with b.loop(steps) as i:
            place = b.let(to.offset + i * (self.size * to.pitch))
            with b.loop(self.size) as k:
                b.store(to.pointer, place + k * to.pitch, zero)
            begin = b.let(starts.load(at + i))
            with b.loop(b.let(starts.load(at + i + 1) - begin), begin) as group:
                self._group(b, pointers, group, place, to)

    def _group(self, b: Builder, pointers: dict[int, Any], group: Any, place: Any, to: Place) -> None:
        _, levels, scales, places = (pointers[id(tensor)] for tensor in self.tensors)
        kind, half = vector_type("float32", _BYTES), self.size // 2
        packed = b.let(tir.Cast("int32", places.load(group)))
        out = b.let(place + tir.bitwise_and(packed, int32(15)))
        zero = b.let(tir.Cast("float32", tir.shift_right(packed, int32(4))))
        scale = b.let(load_half(b, scales, group))
        with b.loop(half // _BYTES) as part:
            word = tir.Cast(vector_type("int32", _BYTES), levels.load(group * half + part * _BYTES, _BYTES))
            word = b.hold(word)
            low = tir.bitwise_and(word, constant(15, "int32", _BYTES))
            for side, level in enumerate((low, tir.shift_right(word, constant(4, "int32", _BYTES)))):
                values = b.stack("float32", _BYTES)
                centred = tir.Cast(kind, level) - tir.Broadcast(zero, _BYTES)
                b.store(values, 0, centred * tir.Broadcast(scale, _BYTES))
                for j in range(_BYTES):
                    k = part * _BYTES + (side * half + j)
                    b.store(to.pointer, out + k * to.pitch, values.load(j))
