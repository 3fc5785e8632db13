"""Sums over all pixels of a pixel-major image, one for each channel, exact in int32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Leaf
from .tensor import Tensor

__all__ = ["PixelSums"]

_SAFE = 252  # pixels whose bytes are summed in 16 bits: fewer than 256, a multiple of those of one step
_STEP = 4


@dataclass(eq=False)
class PixelSums(Kernel):
    """`source`: (N, C, H, W), pixel-major with a pitch of 16 bytes or more; `out`: int32 (N, pitch)."""

    source: Tensor
    out: Tensor
    family = "integer-sum"

    def reads(self) -> Sequence[Tensor]:
        return (self.source,)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("pixel-sums", Leaf(self.source).key, Leaf(self.out).key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        images, pitch = self.source.shape[0], self.source.strides[3]
        lanes = min(2 * b.isa.lanes, pitch)
        groups = -(-pitch // lanes)
        with b.split(images * groups) as i:
            n, group = tir.truncdiv(i, int32(groups)), tir.truncmod(i, int32(groups))
            # the last group ends with the pixel
            channel = b.let(tir.min(group * lanes, int32(pitch - lanes)), "channel")
            start = b.let(n * self.source.strides[0] + channel, "from")
            self._sum(b, pointers, start, b.let(n * pitch + channel, "to"), lanes)

    def _sum(self, b: Builder, pointers: dict[int, Pointer], start: Any, to: Any, lanes: int) -> None:
        pixels = self.source.shape[2] * self.source.shape[3]
        total = b.stack("int32", lanes)
        b.store(total, 0, constant(0, "int32", lanes))
        full, rest = divmod(pixels, _SAFE)
        if full:
            with b.each(full) as block:
                first = b.let(start + block * (_SAFE * self.source.strides[3]))
                self._block(b, pointers, first, _SAFE, total, lanes)
        if rest:
            self._block(b, pointers, start + full * _SAFE * self.source.strides[3], rest, total, lanes)
        b.store(pointers[id(self.out)], to, total.load(0, lanes))

    def _block(
        self, b: Builder, pointers: dict[int, Pointer], start: Any, pixels: int, total: Pointer, lanes: int
    ) -> None:
        """At most `_SAFE` pixels in 16 bits."""
        source, pitch = pointers[id(self.source)], self.source.strides[3]
        dtype = "uint16" if self.source.dtype == "uint8" else "int16"
        partial = b.stack(dtype, lanes)
        b.store(partial, 0, constant(0, dtype, lanes))

        def add(first: Any, count: int) -> None:
            values = [
                tir.Cast(f"{dtype}x{lanes}", source.load(first + i * pitch, lanes)) for i in range(count)
            ]
            while len(values) > 1:
                values = [sum(values[i : i + 2][1:], values[i]) for i in range(0, len(values), 2)]
            b.store(partial, 0, partial.load(0, lanes) + values[0])

        steps, rest = divmod(pixels, _STEP)
        if steps:
            with b.each(steps) as step:
                add(b.let(start + step * (_STEP * pitch)), _STEP)
        if rest:
            add(start + steps * _STEP * pitch, rest)
        b.store(total, 0, total.load(0, lanes) + tir.Cast(f"int32x{lanes}", partial.load(0, lanes)))
