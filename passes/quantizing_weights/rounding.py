"""Weights rounded to the numbers of their groups' grids, each to the nearest or making up for others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..clustering.compensation import assign_compensated
from ..clustering.inputs import Inputs
from .descent import descend
from .drift import Drift, adapted
from .dual_grain import channel_ranges
from .grids import Floats, Grid, find_grid
from .grouping import Quantized, grouped
from .powers import Powers, constrained
from .ranges import Ranges, fit_ranges, whole_range

__all__ = ["Settings", "quantize_weight"]

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How one weight is rounded. A `group` of 0 is a whole output.

    `fit` chooses ranges of least error, without it they hold every weight. `compensate` makes up for errors
    of one input by others, by what is known of them; `damping` is the share of the mean second moment that is
    added to each. `powers` constrains scales; with `dual_grain` they are whole multiples of their output's.
    """

    dtype: str
    group: int
    symmetric: bool = False
    fit: bool = True
    compensate: bool = True
    damping: float = 0.01
    powers: Powers = "free"
    dual_grain: bool = False

    @property
    def grid(self) -> Grid:
        """The numbers there are."""
        return find_grid(self.dtype, self.symmetric)


def quantize_weight(
    weight: Singles, settings: Settings, inputs: Inputs | None = None, drift: Drift | None = None
) -> Quantized:
    """Round `weight` (outputs first) for a layer of which `inputs` are known, if anything.

    With `drift` the weight is first adapted to what the layer reads now.
    """
    matrix = weight.reshape(len(weight), -1).astype(np.float64)
    if drift is not None:
        matrix = adapted(matrix, drift, settings.damping)
    group = min(settings.group or matrix.shape[1], matrix.shape[1])
    ranges, channel = _ranges(matrix, group, settings, inputs)
    each = ranges.spread(group, matrix.shape[1])
    grams = inputs.grams() if inputs is not None and settings.compensate else []
    numbers = _compensated(matrix, each, grams, settings.damping) if grams else each.nearest(matrix)
    return Quantized(weight.shape, group, numbers, ranges, channel)


def _ranges(
    matrix: Floats, group: int, settings: Settings, inputs: Inputs | None
) -> tuple[Ranges, Floats | None]:
    """Of the groups, and the channel scales of dual grain."""
    blocks = grouped(matrix, group)
    moments = np.ones((1, matrix.shape[1])) if inputs is None else inputs.moments().astype(np.float64)
    importance = grouped(moments.repeat(len(matrix) // len(moments), axis=0), group)
    grid = settings.grid
    free = fit_ranges(blocks, importance, grid) if settings.fit else whole_range(blocks, grid)
    if settings.dual_grain:
        return channel_ranges(free, blocks, importance)
    return constrained(free, blocks, importance, settings.powers), None


def _compensated(matrix: Floats, each: Ranges, grams: list[Floats], damping: float) -> Floats:
    numbers = np.empty_like(matrix)

    def quantize(values: Floats, k: int) -> Floats:
        here = each.at(k)
        numbers[:, k] = here.nearest(values)
        return here.scale * numbers[:, k]

    assign_compensated(matrix.copy(), grams, damping, quantize)
    descend(matrix, numbers, each, grams, damping)
    return numbers
