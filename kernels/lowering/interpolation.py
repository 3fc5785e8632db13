"""Where a resized axis reads its source, and with which weights.

Definitions: https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gossamer.runtime.errors import UnsupportedError

__all__ = ["Sampling", "Taps", "interpolation_taps", "nearest_places"]

Array = np.ndarray


@dataclass(frozen=True)
class Sampling:
    """One axis of extent `old` resized to `new`; `mode` is ONNX's coordinate_transformation_mode.

    `region` is the part of the source that a cropping mode reads, as fractions of its extent.
    """

    old: int
    new: int
    scale: float
    mode: str
    region: tuple[float, float] = (0.0, 1.0)

    @property
    def is_identity(self) -> bool:
        """Whether every element stays where it is."""
        same = self.old == self.new and self.scale == 1.0
        return same and (self.mode != "tf_crop_and_resize" or self.region == (0.0, 1.0))

    def places(self) -> Array:
        """Source coordinate of every index; integers are centres of elements.

        In float32, as other runtimes compute it: what lies between two elements rounds the same way.
        """
        i = np.arange(self.new, dtype=np.float32)
        scale = np.float32(self.scale)
        length = scale * np.float32(self.old)  # the resized extent before it was rounded
        if self.mode == "half_pixel" or (self.mode == "pytorch_half_pixel" and self.new > 1):
            return (i + np.float32(0.5)) / scale - 0.5
        if self.mode == "pytorch_half_pixel":
            return np.zeros_like(i)
        if self.mode == "half_pixel_symmetric":
            shift = np.float32(self.old / 2) * (1 - np.float32(self.new) / length)
            return shift + (i + np.float32(0.5)) / scale - 0.5
        if self.mode == "asymmetric":
            return i / scale
        if self.mode == "align_corners":
            return i * (self.old - 1) / (self.new - 1) if self.new > 1 else np.zeros_like(i)
        if self.mode == "tf_crop_and_resize":
            start, end = self.region
            if self.new > 1:
                return start * (self.old - 1) + i * (end - start) * (self.old - 1) / (self.new - 1)
            return np.full_like(i, 0.5 * (start + end) * (self.old - 1))
        raise UnsupportedError("unknown coordinate mode", where="Resize", got=self.mode)

    def outside(self) -> Array:
        """Which indices a cropping mode reads from outside the source."""
        if self.mode != "tf_crop_and_resize":
            return np.zeros(self.new, bool)
        places = self.places()
        return (places < 0) | (places > self.old - 1)


@dataclass(frozen=True)
class Taps:
    """`places` (int32, inside the source) and `weights` (float32), both (taps, new extent)."""

    places: Array
    weights: Array


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def nearest_places(sampling: Sampling, rounding: str) -> Array:
    """The source index (int32) of every index."""
    places = sampling.places()
    if sampling.scale == 1.0 and sampling.old == sampling.new and sampling.mode != "tf_crop_and_resize":
        rounding = "floor"
    rounded = _ROUNDINGS[rounding](places)
    return np.asarray(np.clip(rounded, 0, sampling.old - 1), np.int32)


def interpolation_taps(
    sampling: Sampling, mode: str, *, cubic: float, exclude_outside: bool, antialias: bool
) -> Taps:
    """The filter of every index; `antialias` widens it where the axis shrinks."""
    stretch = max(1.0, 1.0 / sampling.scale) if antialias else 1.0
    reach = {"linear": 1, "cubic": 2}[mode]
    shape = _triangle if mode == "linear" else lambda x: _cubic(x, cubic)
    places = sampling.places().astype(np.float64)
    if mode == "linear" and not antialias:
        places = np.clip(places, 0, sampling.old - 1)
    first = np.floor(places - reach * stretch).astype(np.int64) + 1
    count = int(np.ceil(2 * reach * stretch)) + (1 if stretch > 1.0 else 0)
    taps = first[None, :] + np.arange(count)[:, None]
    weights = shape((taps - places[None, :]) / stretch)
    inside = (taps >= 0) & (taps < sampling.old)
    if exclude_outside:
        weights = np.where(inside, weights, 0.0)
    weights = weights / weights.sum(axis=0, keepdims=True)
    used = np.any(weights != 0.0, axis=1)
    taps, weights = taps[used], weights[used]
    return Taps(np.clip(taps, 0, sampling.old - 1).astype(np.int32), weights.astype(np.float32))


def _triangle(x: Array) -> Array:
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(x)))


def _cubic(x: Array, a: float) -> Array:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.asarray(np.where(x <= 1, near, np.where(x < 2, far, 0.0)))
