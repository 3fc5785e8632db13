"""Weights rounded to the numbers of their groups' grids, each to the nearest or making up for others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..clustering.compensation import assign_compensated
from ..clustering.inputs import Inputs
from .grids import Floats, Grid, find_grid
from .grouping import Quantized, grouped, spread_groups
from .ranges import fit_ranges, whole_range

__all__ = ["Settings", "quantize_weight"]

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How one weight is rounded. A `group` of 0 is a whole output.

    `fit` chooses ranges of least error, without it they hold every weight. `compensate` makes up for errors
    of one input by others, by what is known of them; `damping` is the share of the mean second moment that is
    added to each.
    """

    dtype: str
    group: int
    symmetric: bool
    fit: bool = True
    compensate: bool = True
    damping: float = 0.01

    @property
    def grid(self) -> Grid:
        """The numbers there are."""
        return find_grid(self.dtype, self.symmetric)


def quantize_weight(weight: Singles, settings: Settings, inputs: Inputs | None = None) -> Quantized:
    """Round `weight` (outputs first) for a layer of which `inputs` are known, if anything."""
    matrix = weight.reshape(len(weight), -1).astype(np.float64)
    group = min(settings.group or matrix.shape[1], matrix.shape[1])
    scale, zero = _ranges(matrix, group, settings, inputs)
    grams = inputs.grams() if inputs is not None and settings.compensate else []
    wide = tuple(spread_groups(part, group, matrix.shape[1]) for part in (scale, zero))
    numbers = _compensated(matrix, settings, grams, *wide) if grams else _nearest(matrix, settings, *wide)
    return Quantized(weight.shape, group, settings.grid, numbers, scale.astype(np.float32), zero)


def _ranges(matrix: Floats, group: int, settings: Settings, inputs: Inputs | None) -> tuple[Floats, Floats]:
    blocks = grouped(matrix, group)
    if not settings.fit:
        return whole_range(blocks, settings.grid)
    moments = np.ones((1, matrix.shape[1])) if inputs is None else inputs.moments().astype(np.float64)
    moments = moments.repeat(len(matrix) // len(moments), axis=0)
    return fit_ranges(blocks, grouped(moments, group), settings.grid)


def _nearest(matrix: Floats, settings: Settings, scale: Floats, zero: Floats) -> Floats:
    return settings.grid.nearest(matrix / scale, zero)


def _compensated(
    matrix: Floats, settings: Settings, grams: list[Floats], scale: Floats, zero: Floats
) -> Floats:
    numbers, grid = np.empty_like(matrix), settings.grid

    def quantize(values: Floats, k: int) -> Floats:
        numbers[:, k] = grid.nearest(values / scale[:, k], zero[:, k])
        return scale[:, k] * numbers[:, k]

    assign_compensated(matrix.copy(), grams, settings.damping, quantize)
    return numbers
