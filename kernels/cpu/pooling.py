"""Maximum and mean of sliding windows, in blocks of output rows, one vector wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .arithmetic import maximum
from .builder import Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Leaf
from .register_tile import RegisterTile
from .storing import store_first
from .sweep import Sweep, WindowReader, free_rows, narrow_lanes
from .tensor import Tensor
from .window import Window

__all__ = ["Pooling"]

_ROWS = 4  # of a block


@dataclass(eq=False)
class Pooling(Kernel):
    """`source`: (N, C, H, W) float32, which `sweep.readable` describes; `out`: (N, C, OH, OW).

    The mean is of the elements inside the plane, or with `count_pad` inside its padded form; the maximum
    where `mean` is false.
    """

    source: Tensor
    out: Tensor
    window: Window
    mean: bool
    count_pad: bool = False
    family = "pooling"

    def reads(self) -> Sequence[Tensor]:
        return (self.source,)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("pooling", self.window, self.mean, self.count_pad, Leaf(self.source).key, Leaf(self.out).key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        batch, channels = self.source.shape[:2]
        lanes = narrow_lanes(b.isa.lanes, self.window.out_size[1])
        free = free_rows(self.out, lanes)
        sweep = Sweep(self.window, lanes, min(_ROWS, self.window.out_size[0]), free)
        with b.split(batch * channels) as plane:
            n = tir.truncdiv(plane, int32(channels))
            c = plane - n * channels
            start = b.let(n * self.source.strides[0] + c * self.source.strides[1])
            to = b.let(n * self.out.strides[0] + c * self.out.strides[1])
            outside = 0.0 if self.mean else float("-inf")
            source = pointers[id(self.source)]
            reader = WindowReader(b, self.window, lanes, source, start, self.source.strides[2], outside)

            def block(y: Any, rows: int, x: Any) -> None:
                tile = RegisterTile(b, rows, 1, lanes)
                tile.start(lambda r, j: constant(outside, "float32", lanes))
                for r, _, _, pixels in reader.pixels(y, rows, x):
                    so_far = tile.get(r, 0)
                    tile.set(r, 0, so_far + pixels if self.mean else maximum(so_far, pixels))
                for r in range(rows):
                    value = tile.get(r, 0)
                    value = b.hold(value * self._share(y, r, x, lanes)) if self.mean else value
                    whole = not isinstance(y, int) or y + r < free
                    keep = lanes if whole else self.window.out_size[1]
                    place = to + (y + r) * self.out.strides[2] + x
                    store_first(b, pointers[id(self.out)], place, value, lanes, keep)

            sweep.emit(b, block)

    def _share(self, y: Any, r: int, x: Any, lanes: int) -> Any:
        """1 / the number of elements averaged, for each column from x of output row y + r."""
        tall = self._counted(0, y + r) if isinstance(y, int) else self.window.kernel[0]
        if not isinstance(x, int):
            return constant(1 / (tall * self.window.kernel[1]), "float32", lanes)
        wide = [self._counted(1, min(x + i, self.window.out_size[1] - 1)) for i in range(lanes)]
        usual = max(wide)
        share = _reciprocal(tall * usual, lanes)
        lane = tir.Ramp(int32(0), int32(1), lanes)
        for i, count in enumerate(wide):
            if count != usual:
                here = tir.EQ(lane, constant(i, "int32", lanes))
                share = tir.Select(here, _reciprocal(tall * count, lanes), share)
        return share

    def _counted(self, axis: int, at: int) -> int:
        w = self.window
        low = -w.pads[axis] if self.count_pad else 0
        high = w.in_size[axis] + (w.pads[2 + axis] if self.count_pad else 0)
        first = at * w.strides[axis] - w.pads[axis]
        places = [first + k * w.dilations[axis] for k in range(w.kernel[axis])]
        return sum(low <= place < high for place in places)


def _reciprocal(count: int, lanes: int) -> Any:
    return constant(1 / count if count else float("nan"), "float32", lanes)
