"""A weight [O, K] in groups of consecutive inputs, and what it is rounded to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .grids import Floats, Grid

__all__ = ["Quantized", "grouped", "spread_groups"]


Float = TypeVar("Float", np.float32, np.float64)


@dataclass(frozen=True)
class Quantized:
    """A weight of `shape`, outputs first, as numbers of a grid: `scale[o, k // group] * numbers[o, k]`.

    `numbers` float64 [O, K]; `scale` float32 and `zero` float64 [O, ceil(K / group)].
    """

    shape: tuple[int, ...]
    group: int
    grid: Grid
    numbers: Floats
    scale: npt.NDArray[np.float32]
    zero: Floats

    @property
    def codes(self) -> Floats:
        """Numbers with the zero points added: what integers are stored as."""
        return self.numbers + spread_groups(self.zero, self.group, self.numbers.shape[1])

    def decode(self) -> npt.NDArray[np.float32]:
        """The weight, float32 of `shape`."""
        scale = spread_groups(self.scale, self.group, self.numbers.shape[1])
        found: npt.NDArray[np.float32] = scale * self.numbers.astype(np.float32)
        return found.reshape(self.shape)


def grouped(matrix: Floats, group: int) -> Floats:
    """[O, K] as [O, ceil(K / group), group]; the last group is filled up with zeros."""
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % group)))
    return padded.reshape(len(matrix), -1, group)


def spread_groups(values: npt.NDArray[Float], group: int, inputs: int) -> npt.NDArray[Float]:
    """[O, ceil(K / group)] as [O, K]."""
    return np.repeat(values, group, axis=1)[:, :inputs]
