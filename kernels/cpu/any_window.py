"""Windows over images of any size, and the copy of an image in which every element of a window is a distance.

Images are cut by the strides: element i of an axis of stride s lies in phase i mod s, at place i // s. In a
copy that holds phases one behind the other, with the margins, the pixels that one element of the window sees
lie side by side, row after row: element k of the window is a distance, at which pixel p reads place p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from tvm import tirx as tir

from ..dims import Size
from .builder import Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Leaf
from .tensor import Tensor, contiguous

__all__ = ["AnyPlanes", "AnyWindow"]


@dataclass(frozen=True)
class AnyWindow:
    """All by axis behind the channels; `before` is the margin before the image."""

    in_size: tuple[Size, ...]
    out_size: tuple[Size, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Size, ...]

    @property
    def taps(self) -> int:
        """Elements of one window."""
        return prod(self.kernel)

    @property
    def runs(self) -> tuple[Size, ...]:
        """Places of one phase along each axis."""
        axes = zip(self.out_size, self.kernel, self.strides, self.dilations, strict=True)
        return tuple(n + (k - 1) * d // s for n, k, s, d in axes)

    @property
    def phases(self) -> list[tuple[int, ...]]:
        """Those that any element of the window sees."""
        axes = zip(self.kernel, self.strides, self.dilations, strict=True)
        return list(product(*(sorted({i * d % s for i in range(k)}) for k, s, d in axes)))

    @property
    def pitches(self) -> tuple[Size, ...]:
        """Distances between neighbouring pixels along each axis."""
        return contiguous(self.runs)

    @property
    def plane(self) -> Size:
        """Elements of the copy of one plane."""
        return len(self.phases) * prod(self.runs)

    def distances(self) -> list[Size]:
        """Of every element of the window from a pixel's place."""
        phases, found = self.phases, []
        for taps in product(*map(range, self.kernel)):
            at = [k * d for k, d in zip(taps, self.dilations, strict=True)]
            phase = tuple(i % s for i, s in zip(at, self.strides, strict=True))
            places = (i // s * p for i, s, p in zip(at, self.strides, self.pitches, strict=True))
            found.append(phases.index(phase) * prod(self.runs) + sum(places))
        return found


@dataclass(eq=False)
class AnyPlanes(Kernel):
    """Copies `source` (N, C, …) into the planes (N · C, plane) of a window."""

    source: Tensor
    out: Tensor
    window: AnyWindow
    family = "any-planes"

    def reads(self) -> Sequence[Tensor]:
        return (self.source,)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("any-planes", Leaf(self.source).key, Leaf(self.out).key, self.window)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        batch, channels = self.source.shape[:2]
        source, out = pointers[id(self.source)], pointers[id(self.out)]
        with b.split(batch * channels) as plane:
            n = b.let(tir.truncdiv(plane, int32(channels)))
            c = b.let(plane - n * int32(channels))
            start = b.let(n * self.source.strides[0] + c * self.source.strides[1])
            for i, phase in enumerate(self.window.phases):
                to = b.let(plane * int32(self.window.plane) + int32(i * prod(self.window.runs)))
                self._axis(b, source, out, phase, 0, start, to, None)

    def _axis(
        self, b: Builder, source: Pointer, out: Pointer, phase: Sequence[int], axis: int,
        start: Any, to: Any, inside: Any,
    ) -> None:  # fmt: skip
        """The places of one phase from `axis` on; `inside` says whether they are in the image so far."""
        w = self.window
        if axis == len(phase) - 1:
            self._row(b, source, out, phase[axis], start, to, inside)
            return
        with b.loop(w.runs[axis]) as i:
            y = b.let(i * w.strides[axis] + phase[axis] - w.before[axis])
            here = tir.And(y >= 0, y < int32(w.in_size[axis]))
            inside = here if inside is None else tir.And(inside, here)
            line, place = y * self.source.strides[2 + axis], i * w.pitches[axis]
            self._axis(b, source, out, phase, axis + 1, b.let(start + line), b.let(to + place), inside)

    def _row(
        self, b: Builder, source: Pointer, out: Pointer, phase: int, start: Any, to: Any, inside: Any
    ) -> None:
        """Zeros, the pixels that there are, zeros."""
        w, step = self.window, self.source.strides[-1]
        run, stride, width = int32(w.runs[-1]), w.strides[-1], int32(w.in_size[-1])
        margin = int32(w.before[-1]) - phase  # place x holds column x · stride - margin
        first = tir.truncdiv(tir.max(margin, int32(0)) + (stride - 1), int32(stride))
        end = tir.truncdiv(tir.max(width + margin + (stride - 1), int32(0)), int32(stride))
        first, end = tir.min(first, run), tir.min(end, run)
        if inside is not None:
            first = tir.Select(inside, first, run)
        first = b.let(first)
        end = b.let(tir.max(end, first))
        zero = constant(0.0, "float32")
        _in_vectors(b, int32(0), first, lambda i, n: b.store(out, to + i, _spread(zero, n)))
        at = b.let(start - margin * step)
        if stride == 1 and step == 1:
            _in_vectors(b, first, end, lambda i, n: b.store(out, to + i, source.load(at + i, n)))
        else:
            with b.loop(b.let(end - first), first) as i:
                b.store(out, to + i, source.load(at + i * (step * stride)))
        _in_vectors(b, end, run, lambda i, n: b.store(out, to + i, _spread(zero, n)))


def _spread(value: Any, lanes: int) -> Any:
    return value if lanes == 1 else tir.Broadcast(value, lanes)


def _in_vectors(b: Builder, first: Any, end: Any, body: Callable[[Any, int], None]) -> None:
    """`body(i, lanes)` from `first` to before `end`: whole vectors, then one by one."""
    lanes = b.isa.lanes
    full = b.let(tir.truncdiv(end - first, int32(lanes)))
    with b.loop(full) as v:
        body(b.let(first + v * lanes), lanes)
    rest = b.let(first + full * lanes)
    with b.loop(b.let(end - rest), rest) as i:
        body(i, 1)
