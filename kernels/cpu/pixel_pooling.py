"""Maxima and means of windows over pixel-major images of bytes, channels in vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from ..quantization import integer_range
from .builder import Builder, Pointer, constant, int32
from .integer_epilogue import Requantize
from .kernel import Kernel
from .lazy import Leaf
from .narrowing import narrow, store_elements
from .tensor import Tensor
from .window import Window

__all__ = ["MOST_TAPS", "Mean", "PixelPooling"]

MOST_TAPS = 256  # of a window whose bytes are summed in 16 bits


@dataclass(frozen=True)
class Mean:
    """(Σ x - `zero_point`) · `scale` / count, rounded; with `count_pad` the margin counts as zeros."""

    scale: float
    zero_point: int
    count_pad: bool
    requantize: Requantize


@dataclass(eq=False)
class PixelPooling(Kernel):
    """`source` (N, C, H, W) to `out` (N, C, OH, OW), both pixel-major: the maximum, or the `mean`."""

    source: Tensor
    out: Tensor
    window: Window
    mean: Mean | None
    family = "integer-pooling"

    def reads(self) -> Sequence[Tensor]:
        return (self.source,)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("pixel-pooling", self.window, self.mean, Leaf(self.source).key, Leaf(self.out).key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        w, work = self.window, _Work(self, b, pointers)
        (height, width), rows = w.out_size, self.source.shape[0] * w.out_size[0]
        first, last = _inner(w, 1)
        with b.split(rows) as row:
            n = b.let(tir.truncdiv(row, int32(height)), "n")
            y = b.let(row - n * height, "y")
            top, bottom = _inner(w, 0)
            whole = tir.And(y >= top, y < bottom)
            with b.when(whole):
                for start, count, inside in (
                    (0, first, False),
                    (first, last - first, True),
                    (last, width - last, False),
                ):
                    if count:
                        with b.loop(count, start) as x:
                            work.pixel(n, y, x, inside)
            if top or bottom < height:
                with b.when(tir.Not(whole)), b.loop(width) as x:
                    work.pixel(n, y, x, False)


def _inner(w: Window, axis: int) -> tuple[int, int]:
    """Outputs along an axis, from and to, whose windows lie inside the image."""
    reach = (w.kernel[axis] - 1) * w.dilations[axis]
    stride, pad, out = w.strides[axis], w.pads[axis], w.out_size[axis]
    first = min(out, -(-pad // stride))
    last = (w.in_size[axis] - 1 - reach + pad) // stride + 1
    return first, max(first, min(out, last))


@dataclass
class _Work:
    kernel: PixelPooling
    b: Builder
    pointers: dict[int, Pointer]

    def pixel(self, n: Any, y: Any, x: Any, inside: bool) -> None:
        """All channels of one output."""
        k, b = self.kernel, self.b
        pitch = k.source.strides[3]
        width = min(4 * b.isa.lanes, pitch)
        to = b.let(n * k.out.strides[0] + y * k.out.strides[2] + x * k.out.strides[3], "to")
        with b.each(-(-pitch // width)) as group:
            channel = b.let(tir.min(group * width, int32(pitch - width)), "channel")
            self._vector(n, y, x, channel, to + channel, width, inside)

    def _vector(self, n: Any, y: Any, x: Any, channel: Any, to: Any, width: int, inside: bool) -> None:
        k, b, source = self.kernel, self.b, self.pointers[id(self.kernel.source)]
        w, dtype = k.window, k.source.dtype
        sums = ("uint16" if dtype == "uint8" else "int16") if k.mean else dtype
        start = 0 if k.mean else integer_range(dtype)[0]
        total = b.stack(sums, width)
        b.store(total, 0, constant(start, sums, width))
        corner = (b.let(y * w.strides[0] - w.pads[0]), b.let(x * w.strides[1] - w.pads[1]))
        base = n * k.source.strides[0] + channel

        def visit(row: Any, column: Any) -> None:
            at = base + row * k.source.strides[2] + column * k.source.strides[3]
            value = source.load(at, width)
            so_far = total.load(0, width)
            added = so_far + tir.Cast(f"{sums}x{width}", value) if k.mean else tir.max(so_far, value)
            b.store(total, 0, added)

        if inside:
            for ky in range(w.kernel[0]):
                for kx in range(w.kernel[1]):
                    visit(corner[0] + ky * w.dilations[0], corner[1] + kx * w.dilations[1])
        else:
            self._bordering(corner, visit)
        if k.mean is None:
            b.store(self.pointers[id(k.out)], to, total.load(0, width))
            return
        within = self._count(corner, (0, 0, 0, 0))
        pads = w.pads if k.mean.count_pad else (0, 0, 0, 0)
        counted = self._count(corner, pads) if not inside else int32(w.taps)
        self._rounded(k.mean, total, within if not inside else int32(w.taps), counted, to, width)

    def _bordering(self, corner: tuple[Any, Any], visit: Callable[[Any, Any], None]) -> None:
        w, b = self.kernel.window, self.b
        with b.each(w.kernel[0]) as ky:
            row = b.let(corner[0] + ky * w.dilations[0], "row")
            with b.when(tir.And(row >= 0, row < w.in_size[0])), b.each(w.kernel[1]) as kx:
                column = b.let(corner[1] + kx * w.dilations[1], "column")
                with b.when(tir.And(column >= 0, column < w.in_size[1])):
                    visit(row, column)

    def _count(self, corner: tuple[Any, Any], pads: tuple[int, int, int, int]) -> Any:
        """Elements of the window inside the image with these margins."""
        w, counts = self.kernel.window, []
        for axis in (0, 1):
            low, high, step = -pads[axis], w.in_size[axis] + pads[2 + axis], w.dilations[axis]
            total: Any = int32(0)
            for k in range(w.kernel[axis]):
                at = corner[axis] + k * step
                total = total + tir.Select(tir.And(at >= low, at < high), int32(1), int32(0))
            counts.append(total)
        return self.b.let(counts[0] * counts[1], "count")

    def _rounded(self, mean: Mean, total: Pointer, within: Any, counted: Any, to: Any, width: int) -> None:
        """Stores the mean of `counted` elements, of which `within` were summed."""
        b, q = self.b, mean.requantize
        lanes = min(width, b.isa.lanes)
        # a window of nothing gives zero
        share = b.let(tir.const(mean.scale, "float32") / tir.Cast("float32", tir.max(counted, int32(1))))
        shift = b.let(within * mean.zero_point)
        integers = []
        for v in range(0, width, lanes):
            sums = tir.Cast(f"int32x{lanes}", total.load(v, lanes)) - tir.Broadcast(shift, lanes)
            value = tir.Cast(f"float32x{lanes}", sums) * tir.Broadcast(share, lanes)
            integers.append(b.hold(q.integers(b, b.hold(value), lanes)))
        out, done = self.pointers[id(self.kernel.out)], 0
        for many, value in narrow(b, integers, q.dtype, q.low, q.high):
            store_elements(b, out, to + done, value, many)
            done += many
