"""What is known of the inputs of a layer: measured on calibration data, or assumed.

Both give E[x_k ^ 2], by which errors of weights are weighed, and E[x x'], by which they are made up for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "Assumed", "Inputs", "Measured"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
BLOCK = 768
"""Inputs whose errors are balanced together."""
_GRID = 1 << 14
_RECTIFIED_MEAN = 0.3
_REACH = 3.0


class Inputs(ABC):
    """Statistics of the K inputs that each group of outputs reads."""

    @abstractmethod
    def moments(self) -> Singles:
        """E[x_k ^ 2] over their mean, [groups, K]."""

    @abstractmethod
    def grams(self) -> list[Floats]:
        """E[x x'] of each block of neighbouring inputs, [groups, b, b], in order; none if all are apart."""


@dataclass(frozen=True)
class Measured(Inputs):
    """Rows [n, groups * K] that a layer read; each channel has `taps` of the K."""

    rows: Singles
    groups: int
    taps: int

    def moments(self) -> Singles:
        """Raised by a hundredth of their mean, so that an input that was always zero counts a little."""
        total = np.zeros(self.rows.shape[1])
        for row in self.rows:  # in order: the same sum on every machine
            total += row.astype(np.float64) ** 2
        each = total.reshape(self.groups, -1)
        mean = float(np.cumsum(each)[-1]) / each.size or 1.0
        return (each / mean + 0.01).astype(np.float32)

    def grams(self) -> list[Floats]:
        """Rows are rounded to 15 bits, so that sums are whole numbers and the same in any order."""
        depth = self.rows.shape[1] // self.groups
        step = float(np.abs(self.rows).max(initial=0)) / _GRID or 1.0
        blocks = []
        for inside in _blocks(depth, self.taps):
            grams = np.empty((self.groups, inside.size, inside.size))
            for group in range(self.groups):
                part = np.round(self.rows[:, group * depth + inside] / np.float32(step)).astype(np.float64)
                grams[group] = part.T @ part
            blocks.append(grams * (step * step / max(1, len(self.rows))))
        return blocks


@dataclass(frozen=True)
class Assumed(Inputs):
    """What holds for most layers, where there is no data.

    Pixels resemble their neighbours: taps of one channel that are r pixels apart correlate by exp(-r / 3).
    What a ReLU gives has a mean, which all inputs share: its square is 0.3 of the second moment (0.32 for a
    rectified normal variable). `kernel` and `dilations` are those of a convolution, else empty.
    """

    channels: int
    kernel: tuple[int, ...]
    dilations: tuple[int, ...]
    rectified: bool

    def moments(self) -> Singles:
        """All the same."""
        return np.ones((1, self.channels * prod(self.kernel)), np.float32)

    def grams(self) -> list[Floats]:
        """None for a product of values of no known sign."""
        taps = prod(self.kernel)
        if taps == 1 and not self.rectified:
            return []
        mean = _RECTIFIED_MEAN if self.rectified else 0.0
        alike = _resemblance(self.kernel, self.dilations)
        made: dict[int, Floats] = {}
        for inside in _blocks(self.channels * taps, taps):
            if inside.size not in made:
                gram = mean + (1 - mean) * np.kron(np.eye(inside.size // taps), alike)
                made[inside.size] = np.asarray(gram, np.float64)[None]
        return [made[inside.size] for inside in _blocks(self.channels * taps, taps)]


def _resemblance(kernel: Sequence[int], dilations: Sequence[int]) -> Floats:
    """The correlation of each two taps of a kernel, [taps, taps]."""
    places = np.stack(np.unravel_index(np.arange(prod(kernel)), tuple(kernel)), axis=1) if kernel else None
    if places is None:
        return np.ones((1, 1))
    gaps = (places[:, None] - places) * np.array(dilations)
    return np.asarray(np.exp(-np.sqrt((gaps**2).sum(axis=2)) / _REACH))


def _blocks(depth: int, taps: int) -> list[npt.NDArray[np.int64]]:
    """The inputs of each block: whole channels, at most BLOCK unless one channel has more."""
    size = max(taps, BLOCK // taps * taps)
    return [np.arange(start, min(start + size, depth)) for start in range(0, depth, size)]
