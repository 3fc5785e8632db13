"""Zero-padded copies of image planes, laid out so that every tap of a window is a contiguous read.

A row of the copy holds `phases` = horizontal stride runs, run q the columns x ≡ q (mod stride): a strided
convolution then reads neighbouring pixels from neighbouring addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Leaf
from .tensor import Tensor
from .window import Window

__all__ = ["PadPlanes", "PlaneLayout", "emit_plane"]


@dataclass(frozen=True)
class PlaneLayout:
    """How one padded plane lies in memory; all counts in float32 elements."""

    window: Window
    rows: int
    run: int  # columns of one phase

    @classmethod
    def of(cls, window: Window, lanes: int) -> PlaneLayout:
        """The layout for vectors of `lanes`, with room for reads past the last pixel."""
        out_h, out_w = window.out_size
        reach_x = ((window.kernel[1] - 1) * window.dilations[1]) // window.strides[1]
        run = max(out_w + reach_x, -(-(window.in_size[1] + window.pads[1]) // window.strides[1]))
        reach_y = (window.kernel[0] - 1) * window.dilations[0]
        rows = (out_h - 1) * window.strides[0] + reach_y + 1
        return cls(window, rows, run)

    @property
    def phases(self) -> int:
        return self.window.strides[1]

    @property
    def row_stride(self) -> int:
        return self.run * self.phases

    @property
    def size(self) -> int:
        """Elements of one plane; a read may go up to `slack` elements further."""
        return self.rows * self.row_stride

    def slack(self, lanes: int) -> int:
        """Elements that vector reads for pixels past the last one may touch beyond the plane."""
        rows_past = -(-(8 * lanes) // max(1, self.window.out_size[1])) + 1
        return (rows_past * self.window.strides[0] + 1) * self.row_stride + 2 * lanes

    def tap(self, ky: int, kx: int) -> int:
        """Offset of window element (ky, kx) from the address of its output pixel."""
        x = kx * self.window.dilations[1]
        sx = self.window.strides[1]
        return ky * self.window.dilations[0] * self.row_stride + (x % sx) * self.run + x // sx

    @property
    def pixel_row(self) -> int:
        """Distance between the addresses of output pixels (y, x) and (y + 1, x)."""
        return self.window.strides[0] * self.row_stride


@dataclass(eq=False)
class PadPlanes(Kernel):
    """Copies `source` (N, C, H, W) into padded planes (N · C, plane)."""

    source: Tensor
    out: Tensor
    layout: PlaneLayout
    family = "pad-planes"

    def reads(self) -> Sequence[Tensor]:
        return (self.source,)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("pad-planes", Leaf(self.source).key, Leaf(self.out).key, self.layout)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        batch, channels = self.source.shape[:2]
        with b.split(batch * channels) as plane:
            n, c = (
                (0, plane)
                if batch == 1
                else (tir.truncdiv(plane, int32(channels)), tir.truncmod(plane, int32(channels)))
            )
            start = b.let(n * self.source.strides[0] + c * self.source.strides[1])
            emit_plane(
                b,
                self.layout,
                pointers[id(self.source)],
                start,
                self.source.strides[2],
                pointers[id(self.out)],
                b.let(plane * self.out.strides[0]),
            )


def emit_plane(
    b: Builder, layout: PlaneLayout, source: Pointer, start: Any, row: int, out: Pointer, to: Any
) -> None:
    """Writes one padded plane at `to` from the plane at `start` whose rows are `row` elements apart."""
    top = layout.window.pads[0]
    height = max(0, min(layout.window.in_size[0], layout.rows - top))
    _zeros(b, out, to, top * layout.row_stride)
    with b.loop(height) as y:
        to_row = b.let(to + (y + top) * layout.row_stride)
        for phase in range(layout.phases):
            _phase_row(b, layout, phase, source, b.let(start + y * row), out, to_row)
    bottom = layout.rows - top - height
    if bottom > 0:
        _zeros(b, out, b.let(to + (top + height) * layout.row_stride), bottom * layout.row_stride)


def _zeros(b: Builder, out: Pointer, to: Any, count: int) -> None:
    lanes = b.isa.lanes
    full, tail = divmod(count, lanes)
    if full:
        with b.loop(full) as i:
            b.store(out, to + i * lanes, constant(0.0, "float32", lanes))
    if tail:
        b.store(out, to + full * lanes, constant(0.0, "float32", tail))


def _phase_row(
    b: Builder, layout: PlaneLayout, phase: int, source: Pointer, start: Any, out: Pointer, to: Any
) -> None:
    stride, left, width = layout.phases, layout.window.pads[1], layout.window.in_size[1]
    first = max(0, -(-(left - phase) // stride))
    last = min(layout.run, (width - 1 + left - phase) // stride + 1)
    base = phase * layout.run
    _zeros(b, out, to + base, first)
    shift = phase - left  # source column of run column x: x · stride + shift
    _copy(b, source, start + (first * stride + shift), stride, out, to + (base + first), max(0, last - first))
    _zeros(b, out, to + (base + max(first, last)), layout.run - max(first, last))


def _copy(b: Builder, source: Pointer, start: Any, stride: int, out: Pointer, to: Any, count: int) -> None:
    lanes = b.isa.lanes
    full, tail = divmod(count, lanes)
    if stride == 2 and full and tail == 0:
        full, tail = full - 1, lanes  # the last whole vector would read one element too far
    if stride > 2:
        full, tail = 0, count
    if full:
        with b.loop(full) as i:
            b.store(out, to + i * lanes, _strided(source, start + i * (lanes * stride), stride, lanes))
    if tail and stride == 1:
        b.store(out, to + full * lanes, source.load(start + full * lanes, tail))
    elif tail:
        with b.loop(tail) as i:
            b.store(out, to + (i + full * lanes), source.load(start + (i + full * lanes) * stride))


def _strided(source: Pointer, start: Any, stride: int, lanes: int) -> Any:
    if stride == 1:
        return source.load(start, lanes)
    even = [tir.IntImm("int32", 2 * i) for i in range(lanes)]
    return tir.Shuffle([source.load(start, lanes), source.load(start + lanes, lanes)], even)
