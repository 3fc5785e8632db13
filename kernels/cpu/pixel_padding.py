"""A margin of zero points around a pixel-major image, so that windows need no test at its border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Leaf
from .tensor import Tensor

__all__ = ["PadPixels"]


@dataclass(eq=False)
class PadPixels(Kernel):
    """`out`: (N, C, top + H + bottom, left + W + right), of `source` (N, C, H, W) inside, `fill` around it.

    Without a `source` only the margin is written; `size` is (H, W). Pixels lie alike in both, their pitch
    included; `pads` are (top, left, bottom, right). `fill` is a number, or a tensor of one that is known at
    run time.
    """

    source: Tensor | None
    out: Tensor
    size: tuple[int, int]
    pads: tuple[int, int, int, int]
    fill: int | Tensor
    family = "pad"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, self.fill if isinstance(self.fill, Tensor) else None]
        return [tensor for tensor in own if tensor is not None]

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            "pad-pixels",
            self.size,
            self.pads,
            None if isinstance(self.fill, Tensor) else self.fill,
            self.source is None,
            *(Leaf(t).key for t in (*self.reads(), self.out)),
        )

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        out, (height, width) = pointers[id(self.out)], self.size
        top, left, bottom, right = self.pads
        image, _, row, pixel = self.out.strides
        rows = top + height + bottom
        self._value: Any = self.fill
        if isinstance(self.fill, Tensor):
            self._value = b.let(pointers[id(self.fill)].load(0), "fill")
        with b.split(self.out.shape[0] * rows) as line:
            n, y = b.let(tir.truncdiv(line, int32(rows))), b.let(tir.truncmod(line, int32(rows)))
            at = b.let(n * image + y * row, "at")
            inside = tir.And(y >= top, y < top + height)
            if top or bottom:
                with b.when(tir.Not(inside)):
                    self._fill(b, out, at, (left + width + right) * pixel)
            with b.when(inside):
                self._fill(b, out, at, left * pixel)
                if self.source is not None:
                    strides = self.source.strides
                    start = b.let(n * strides[0] + (y - top) * strides[2], "from")
                    self._copy(
                        b, pointers[id(self.source)], start, out, b.let(at + left * pixel), width * pixel
                    )
                self._fill(b, out, at + (left + width) * pixel, right * pixel)

    def _fill(self, b: Builder, out: Pointer, at: Any, count: int) -> None:
        for first, step, turns in _pieces(count, 4 * b.isa.lanes):
            with b.each(turns) as i:
                value = self._value
                filled = constant(value, self.out.dtype, step) if isinstance(value, int) else value
                filled = filled if isinstance(value, int) or step == 1 else tir.Broadcast(value, step)
                b.store(out, at + (i * step + first), filled)

    def _copy(self, b: Builder, source: Pointer, start: Any, out: Pointer, at: Any, count: int) -> None:
        for first, step, turns in _pieces(count, 4 * b.isa.lanes):
            with b.each(turns) as i:
                b.store(out, at + (i * step + first), source.load(start + (i * step + first), step))


def _pieces(count: int, most: int) -> list[tuple[int, int, int]]:
    """(first, elements, how many) of runs of vectors that cover `count` elements.

    >>> _pieces(92, 32)
    [(0, 32, 2), (64, 16, 1), (80, 8, 1), (88, 4, 1)]
    """
    runs, done, step = [], 0, most
    while done < count:
        if turns := (count - done) // step:
            runs.append((done, step, turns))
            done += turns * step
        step //= 2
    return runs
