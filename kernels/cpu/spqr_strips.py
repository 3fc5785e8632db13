"""Strips of weights in tiny groups: codes are unpacked, and take the scale and zero of their group."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

from tvm import tirx as tir

from ..group_grid import GroupForm
from .builder import Builder, Pointer, constant, vector_type
from .code_planes import PackedCodes
from .decoded_panels import Place, StoredStrips
from .half import load_half

__all__ = ["SpqrStrips"]


@dataclass(eq=False)
class SpqrStrips(StoredStrips):
    """`tensors`: codes uint8 [steps, bytes]; stats uint8 [strips, groups, width], a scale's number below a
    zero's; grids float16 as uint16 [panels, groups, 4]; factors float32 [4] of a grid's numbers; and the
    panel of the grids that each strip has, int32 [strips]."""

    form: GroupForm

    @property
    def key(self) -> tuple[Any, ...]:
        return ("spqr", self.form, self.width, *((t.dtype, t.shape) for t in self.tensors))

    def decode(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        work = _Work(self, b, [pointers[id(t)] for t in self.tensors], strip)
        with b.loop(steps) as i:
            place = b.let(to.offset + i * (self.inputs_of_step * to.pitch), "to")
            work.step(b.let(at + i, "s"), b.let(first + i * self.inputs_of_step, "k"), to, place)


class _Work:
    def __init__(self, strips: SpqrStrips, b: Builder, pointers: list[Pointer], strip: Any) -> None:
        self.strips, self.b = strips, b
        self.codes, self.stats, self.grids, self.factors, panels = pointers
        groups = strips.tensors[1].shape[1]
        self.groups = groups
        self.stat = b.let(strip * (groups * strips.width), "stat")
        self.grid = b.let(panels.load(strip) * (groups * 4), "grid")
        self.numbers = b.stack("float32", 4)

    def step(self, at: Any, first: Any, to: Place, place: Any) -> None:
        """The step stored at `at`: inputs from `first`, written from `place`."""
        s, b, width = self.strips, self.b, self.strips.width
        packed = PackedCodes(b, self.codes, b.let(at * s.tensors[0].shape[1]), s.form.bits)
        together = gcd(s.inputs_of_step, s.form.group)  # inputs that surely share a group
        for run in range(0, s.inputs_of_step, together):
            number = tir.truncdiv(first + run, tir.IntImm("int32", s.form.group))
            # a step may go past the last input, where no group is
            scale, zero = self._group(b.let(tir.min(number, tir.IntImm("int32", self.groups - 1)), "g"))
            for i in range(run, run + together):
                code = tir.Cast(vector_type("float32", width), packed.vector(i * width, width))
                b.store(to.pointer, place + i * to.pitch, scale * (code - zero))

    def _group(self, number: Any) -> tuple[Any, Any]:
        """Scale and zero of the outputs of the strip."""
        s, b, width = self.strips, self.b, self.strips.width
        row = load_half(b, self.grids, self.grid + number * 4, 4, self.factors.load(0, 4))
        b.store(self.numbers, 0, row)
        stats = self.stats.load(self.stat + number * width, width)
        both = b.hold(tir.Cast(vector_type("int32", width), stats))
        low = both & constant(2**s.form.scale_bits - 1, "int32", width)
        high = tir.shift_right(both, constant(s.form.scale_bits, "int32", width))
        return self._value(low, 0), self._value(high, 2)

    def _value(self, code: Any, step: int) -> Any:
        b, width = self.b, self.strips.width
        wide = tir.Cast(vector_type("float32", width), code)
        factor, least = self.numbers.load(step), self.numbers.load(step + 1)
        if width > 1:
            factor, least = tir.Broadcast(factor, width), tir.Broadcast(least, width)
        return b.hold(b.isa.multiply_add(wide, factor, least))
