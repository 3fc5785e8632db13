"""Strips of grouped weights: codes unpacked a vector at a time, with their groups' scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32, vector_type
from .code_planes import PackedCodes, codes_per_step
from .decoded_panels import Place, StoredStrips
from .grouped_elements import float_codes
from .half import load_half
from .permuting import repeated

__all__ = ["GroupedStrips"]


@dataclass(eq=False)
class GroupedStrips(StoredStrips):
    """`tensors`: codes uint8 [steps, bytes]; scales float32, or float16 as uint16, [strips, groups, width];
    then zero points uint8 alike, where they are not all `zero`."""

    bits: int
    group: int
    groups: int
    element: str
    zero: int | None

    @property
    def key(self) -> tuple[Any, ...]:
        form = (self.bits, self.group, self.groups, self.element, self.zero, self.width, self.step)
        return ("grouped", *form, *(t.dtype for t in self.tensors))

    @property
    def _together(self) -> int:
        """Inputs of a vector, which are of one group."""
        together = 1
        while 2 * together * self.width <= 16 and self.group % (2 * together) == 0:
            together *= 2
        return together

    def decode(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, at: Any, first: Any, steps: Any, to: Place
    ) -> None:
        once, inputs = self.group % self.inputs_of_step == 0, self.inputs_of_step
        some = min(self._together, b.isa.lanes // self.width) if to.pitch == self.width else 1
        part = codes_per_step(self.bits)
        with b.loop(steps) as i:
            k = b.let(i * inputs)
            out = b.let(to.offset + k * to.pitch, "to")
            code = b.let((at + i) * (self.step * self.bits // 8), "code")
            known = self._factors(b, pointers, strip, b.let(first + k), some) if once else None
            for start in range(0, self.step, part):
                packed = PackedCodes(
                    b, pointers[id(self.tensors[0])], b.let(code + start * self.bits // 8), self.bits
                )
                for number in range(start, start + part, some * self.width):
                    j = number // self.width
                    scale, zero = known or self._factors(b, pointers, strip, b.let(first + k + j), some)
                    codes = packed.vector(number - start, some * self.width)
                    value = float_codes(b, self.element, codes)
                    value = value if zero is None else value - zero
                    b.store(to.pointer, out + j * to.pitch, value * scale)

    def _factors(
        self, b: Builder, pointers: dict[int, Pointer], strip: Any, first: Any, some: int
    ) -> tuple[Any, Any]:
        """Scale and zero point of `some` inputs from the `first` on, of all outputs."""
        number = tir.min(tir.truncdiv(first, int32(self.group)), int32(self.groups - 1))
        at = b.let((strip * self.groups + number) * self.width)
        scales, width = pointers[id(self.tensors[1])], self.width
        half = self.tensors[1].dtype == "uint16"
        scale = load_half(b, scales, at, width) if half else scales.load(at, width)
        scale = b.hold(repeated(scale, width, some))
        kind = vector_type("float32", width)
        if self.zero is not None:
            zero = tir.const(float(self.zero), "float32")
            return scale, (
                tir.Broadcast(zero, some * width) if some * width > 1 else zero
            ) if self.zero else None
        zero = tir.Cast(
            kind, tir.Cast(vector_type("int32", width), pointers[id(self.tensors[2])].load(at, width))
        )
        return scale, b.hold(repeated(zero, width, some))
