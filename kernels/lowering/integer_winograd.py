"""Which 3×3 convolutions of integers Winograd's transforms make faster, and how their weights are packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cpu.integer_dot import Dot
from ..cpu.integer_epilogue import Finish
from ..cpu.integer_product import Reach
from ..cpu.integer_sums import PlainSums
from ..cpu.integer_tile import best_integer_tile
from ..cpu.integer_winograd import IntegerWinograd
from ..cpu.tensor import Tensor
from .choice import Choice
from .state import Lowering

__all__ = ["WinogradPlan", "winograd_plan"]

Array = np.ndarray[Any, np.dtype[Any]]
_LEAST = 32  # channels, and outputs, below which the transforms take what they save
_MOST_TILE = 4 * 255  # of a transformed activation
_G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])


@dataclass(frozen=True)
class WinogradPlan:
    """`taps` (outputs, channels, 3, 3); `tile` tiles of 2 × 2 pixels times `width` vectors of outputs."""

    dot: Dot
    taps: Array
    tile: int
    width: int

    def append(
        self,
        state: Lowering,
        name: str,
        source: Tensor,
        bias: Tensor,
        out: Tensor,
        room: int,
        finish: Finish | PlainSums,
        stored: str,
    ) -> Choice:
        """Adds the kernel."""
        packed = self._packed()
        weights = state.pool.add(f"{name}.weight", packed, f"{self.dot.name} 3x3 strips of {self.width}")
        kernel = IntegerWinograd(source, weights, bias, out, room, self.tile, self.width, self.dot, finish)
        state.steps.append(kernel)
        reason = f"{self.dot.name}, Winograd 2x2: 16 of 36 products are left"
        label = f"{self.tile}x{self.width}v"
        return Choice("integer-winograd", 0, label, reason, format=stored, stored_bytes=packed.nbytes)

    def _packed(self) -> Array:
        """[strips][steps][9 taps][width][lanes][depth]."""
        outputs, channels = self.taps.shape[:2]
        depth, each = self.dot.depth, self.width * self.dot.lanes
        strips, steps = -(-outputs // each), -(-channels // depth)
        padded = np.zeros((strips * each, steps * depth, 9), self.dot.weight_dtype)
        padded[:outputs, :channels] = self.taps.reshape(outputs, channels, 9)
        parts = padded.reshape(strips, each, steps, depth, 9).transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(parts)


def winograd_plan(
    dot: Dot, source: Tensor, out: Tensor, out_steps: tuple[int, int, int], reach: Reach, matrix: Array
) -> WinogradPlan | None:
    """How a convolution is computed by transforms; None where it is not 3×3, or where that is slower.

    Where one instruction sums four products of bytes, int16 pairs would lose what is saved.
    """
    if dot.reads != "int16" or dot.depth != 2 or dot.paired != 2 or dot.weight_dtype != "int8":
        return None
    taps = _taps(source, out, out_steps, reach, matrix)
    if taps is None or min(taps.shape[:2]) < _LEAST or not _bounded(taps):
        return None
    tiles = -(-out.shape[2] // 2) * -(-out.shape[3] // 2)
    strips = -(-len(taps) // dot.lanes)
    rows, columns, vectors = best_integer_tile(dot, (tiles, 1), strips, taps.shape[1] // 2)
    width = next(n for n in (vectors, 2, 1) if strips % n == 0)
    return WinogradPlan(dot, taps, rows * columns, width)


def _taps(
    source: Tensor, out: Tensor, out_steps: tuple[int, int, int], reach: Reach, matrix: Array
) -> Array | None:
    """(outputs, channels, 3, 3) of a 3×3 convolution with strides of one; None where it is another."""
    if len(source.shape) != 4 or len(out.shape) != 4 or reach.groups != 1:
        return None
    image, channel, row, pixel = source.strides
    plain = channel == 1 and pixel % 16 == 0 and reach.steps == (image, row, pixel)
    sides = tuple(n + 2 for n in out.shape[2:]) == source.shape[2:]
    strides = (out.strides[0], out.strides[2], out.strides[3])
    if not (plain and sides and out_steps == strides and reach.pixels == (out.shape[0], *out.shape[2:])):
        return None
    weights, channels = matrix[0], source.shape[1]
    if reach.taps == ((3, row), (3, pixel)):
        by_tap = weights.reshape(len(weights), 3, 3, channels)
    elif reach.taps == ((3, row),) and reach.run == 3 * pixel:
        by_tap = weights.reshape(len(weights), 3, 3, pixel)[..., :channels]
    else:
        return None
    return np.asarray(by_tap.transpose(0, 3, 1, 2))


def _bounded(taps: Array) -> bool:
    """Whether no sum on the way exceeds int32."""
    transformed = np.abs(np.einsum("ai,ocij,bj->ocab", _G, taps.astype(np.int64), _G))
    return bool(transformed.sum(axis=(1, 2, 3)).max() * _MOST_TILE < 2**31)
