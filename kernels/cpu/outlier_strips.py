"""Strips of weights with outliers: the strips of the base, then the outliers in their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer
from .decoded_panels import Place, StoredStrips
from .half import load_half

__all__ = ["OutlierStrips"]


@dataclass(eq=False)
class OutlierStrips(StoredStrips):
    """`tensors` are those of `base`, then: where the outliers of each strip begin, int32 [strips + 1]; where
    in their strip they are, uint16 or int32 input * width + output; and their values, float16 as uint16 or
    float32."""

    base: StoredStrips

    @property
    def key(self) -> tuple[Any, ...]:
        return ("outliers", self.base.key, *((t.dtype, t.shape) for t in self.tensors[-3:]))

    def decode(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        self.base.decode(b, pointers, strip, at, first, steps, to)
        starts, places, values = (pointers[id(t)] for t in self.tensors[-3:])
        start = b.let(starts.load(strip), "start")
        end = b.let(first + steps * self.inputs_of_step, "end")
        with b.loop(b.let(starts.load(strip + 1) - start, "outliers"), start) as i:
            place = b.let(tir.Cast("int32", places.load(i)), "place")
            k = b.let(tir.truncdiv(place, tir.IntImm("int32", self.width)), "k")
            with b.when(tir.And(k >= first, k < end)):
                out = to.offset + (k - first) * to.pitch + (place - k * self.width)
                half = self.tensors[-1].dtype == "uint16"
                b.store(to.pointer, b.let(out), load_half(b, values, i) if half else values.load(i))
