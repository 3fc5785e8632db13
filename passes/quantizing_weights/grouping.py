"""A weight [O, K] in groups of consecutive inputs, and what it is rounded to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .grids import Floats, Grid
from .ranges import Ranges

__all__ = ["Quantized", "grouped"]


@dataclass(frozen=True)
class Quantized:
    """A weight of `shape`, outputs first, as numbers of a grid: `scale[o, k // group] * numbers[o, k]`.

    `numbers` float64 [O, K]; `ranges` are those of groups [O, ceil(K / group)]. Scales are whole multiples of
    `channel` [O, 1] where there is one.
    """

    shape: tuple[int, ...]
    group: int
    numbers: Floats
    ranges: Ranges
    channel: Floats | None = None

    @property
    def grid(self) -> Grid:
        """What numbers are."""
        return self.ranges.grid

    @property
    def codes(self) -> Floats:
        """Numbers with the zero points added: what integers are stored as."""
        return self.numbers + self.ranges.spread(self.group, self.numbers.shape[1]).zero

    def decode(self) -> npt.NDArray[np.float32]:
        """The weight, float32 of `shape`."""
        scale = self.ranges.spread(self.group, self.numbers.shape[1]).scale
        found: npt.NDArray[np.float32] = scale.astype(np.float32) * self.numbers.astype(np.float32)
        return found.reshape(self.shape)


def grouped(matrix: Floats, group: int) -> Floats:
    """[O, K] as [O, ceil(K / group), group]; the last group is filled up with zeros."""
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % group)))
    return padded.reshape(len(matrix), -1, group)
