"""The numbers that a weight may become, times the scale of its group: integers, or floats of a few bits.

weight ~ scale * number        number = code - zero point, or the value of a float8 or float4
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Grid", "IntegerGrid", "MinifloatGrid", "find_grid"]

Floats = npt.NDArray[np.float64]


class Grid(ABC):
    """Which numbers there are, in arrays of float64."""

    @property
    @abstractmethod
    def bits(self) -> int:
        """Bits of a stored number."""

    @property
    @abstractmethod
    def most(self) -> float:
        """The largest magnitude that both signs have."""

    @abstractmethod
    def nearest(self, scaled: Floats, zero: Floats) -> Floats:
        """The number nearest to each of `scaled` = weight / scale, given zero points that broadcast."""


@dataclass(frozen=True)
class IntegerGrid(Grid):
    """Codes `low` to `high`; symmetric ones have a zero point of 0."""

    width: int
    symmetric: bool

    @property
    def bits(self) -> int:
        """2 to 8."""
        return self.width

    @property
    def low(self) -> int:
        """The least code."""
        return -(1 << self.width - 1) if self.symmetric else 0

    @property
    def high(self) -> int:
        """The largest code."""
        return self.low + (1 << self.width) - 1

    @property
    def most(self) -> float:
        """The largest code of symmetric ones."""
        return float(self.high if self.symmetric else self.high / 2)

    def nearest(self, scaled: Floats, zero: Floats) -> Floats:
        """Rounded, and clamped so that codes fit."""
        found: Floats = np.clip(np.rint(scaled), self.low - zero, self.high - zero)
        return found


@dataclass(frozen=True)
class MinifloatGrid(Grid):
    """The finite values of a float of 8 or 4 bits; there is no zero point."""

    dtype: str

    @property
    def bits(self) -> int:
        """8 or 4."""
        return int(_info(self.dtype).bits)

    @property
    def most(self) -> float:
        """The largest finite value."""
        return float(_info(self.dtype).max)

    def nearest(self, scaled: Floats, zero: Floats) -> Floats:
        """Half to even, and clamped to what is finite."""
        held = np.clip(scaled, -self.most, self.most).astype(np.float32).astype(self.dtype)
        return held.astype(np.float64)


def _info(dtype: str) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


_MINIFLOATS = {
    "float8-e4m3": "float8_e4m3fn",
    "float8-e5m2": "float8_e5m2",
    "float4-e2m1": "float4_e2m1fn",
}


def find_grid(dtype: str, symmetric: bool) -> Grid:
    """The grid of "int2" to "int8", or of a small float by its name in recipes.

    >>> find_grid("int4", True).nearest(np.array([-9.0, 2.5]), np.zeros(1)).tolist()
    [-8.0, 2.0]
    >>> find_grid("float4-e2m1", True).nearest(np.array([2.4, -7.0]), np.zeros(1)).tolist()
    [2.0, -6.0]
    """
    if dtype in _MINIFLOATS:
        return MinifloatGrid(_MINIFLOATS[dtype])
    return IntegerGrid(int(dtype.removeprefix("int")), symmetric)
