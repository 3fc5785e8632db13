"""Grids of integers: scale and zero point of a range of activations, and of the rows of a weight.

    real = (integer - zero point) * scale

Source: ONNX operators QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gossamer.kernels.quantization import integer_range, quantize_linear

__all__ = ["Dtype", "Grid", "activation_grid", "quantize_rows", "weight_grid"]

Dtype = Literal["int8", "uint8"]
Floats = npt.NDArray[np.float32]
_WEIGHT_TOP = 127  # -128 is left out, so that a weight and its negative cost the same
_LEAST_SCALE = np.float32(2.0**-100)  # products of two stay normal


@dataclass(frozen=True)
class Grid:
    """`scale` float32 and `zero_point` of the integers' type: of shape () or [outputs]."""

    scale: Floats
    zero_point: npt.NDArray[np.int8] | npt.NDArray[np.uint8]

    @property
    def dtype(self) -> str:
        """int8 or uint8."""
        return str(self.zero_point.dtype)


def activation_grid(low: float, high: float, dtype: Dtype = "uint8", *, symmetric: bool = False) -> Grid:
    """The grid of `dtype` that holds zero exactly and covers `low` to `high`.

    Symmetric ones have zero in the middle, except that uint8 has it at 0 where nothing is negative.

    >>> grid = activation_grid(-1.0, 1.55)
    >>> float(grid.scale), int(grid.zero_point)
    (0.009999999776482582, 100)
    """
    least, most = integer_range(dtype)
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric and not (dtype == "uint8" and low == 0):
        zero = (least + most + 1) // 2
        scale = max(-low, high) / _WEIGHT_TOP
    else:
        scale = (high - low) / (most - least)
        zero = 0
    narrow = _scale(np.asarray(scale))
    if not symmetric:
        zero = int(np.clip(np.rint(least - low / float(narrow)), least, most))
    return Grid(narrow, np.array(zero, dtype))


def weight_grid(rows: Floats, *, per_channel: bool = True) -> Grid:
    """The symmetric int8 grid of a weight [outputs, ...]: one scale for each output, or one for all."""
    flat = np.abs(rows.reshape(len(rows), -1))
    top = flat.max(axis=1) if per_channel else np.asarray(flat.max())
    scale = _scale(top / np.float32(_WEIGHT_TOP))
    return Grid(scale, np.zeros(scale.shape, np.int8))


def quantize_rows(rows: Floats, grid: Grid) -> npt.NDArray[np.int8]:
    """Each row of a weight rounded to the nearest of its grid, never to -128."""
    whole = quantize_linear(rows, grid.scale, grid.zero_point, axis=0)
    return np.asarray(np.maximum(whole, -_WEIGHT_TOP), np.int8)


def _scale(scale: npt.NDArray[np.floating]) -> Floats:
    """As float32; 1 where all values are zero, so that it divides."""
    narrow = scale.astype(np.float32)
    return np.asarray(np.where(narrow > 0, np.maximum(narrow, _LEAST_SCALE), np.float32(1)), np.float32)
