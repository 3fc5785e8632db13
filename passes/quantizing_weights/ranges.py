"""Scales and zero points of groups: spanning the whole range, or of least weighted squared error.

To find the latter the range is shrunk step by step, so that the largest weights are clipped and the others
get a finer grid, and the scale is fitted again to the numbers that weights were rounded to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grids import Floats, Grid, IntegerGrid

__all__ = ["Ranges", "fit_ranges", "rounded_scale", "whole_range"]

_SHRINKS = np.linspace(1.0, 0.5, 21)
_STRETCHES = np.linspace(1.6, 1.05, 12)
"""Floats lie further apart the larger they are: a range beyond the largest weight may suit the others."""


@dataclass(frozen=True)
class Ranges:
    """What each group rounds by, float64 [O, groups] each, or [O, K] once they are spread over its inputs.

    weight ~ scale * number, where a number is one of `grid`, given the zero point, and at most `reach`.
    """

    grid: Grid
    scale: Floats
    zero: Floats
    reach: Floats

    @classmethod
    def of(cls, grid: Grid, scale: Floats, zero: Floats) -> Ranges:
        """Limited by nothing but the grid."""
        return cls(grid, scale, zero, np.full_like(scale, np.inf))

    def spread(self, group: int, inputs: int) -> Ranges:
        """The same for each input."""
        own = np.arange(inputs) // group
        return Ranges(self.grid, self.scale[:, own], self.zero[:, own], self.reach[:, own])

    def at(self, k: int) -> Ranges:
        """Of input `k` alone, [O], once they are spread."""
        return Ranges(self.grid, self.scale[:, k], self.zero[:, k], self.reach[:, k])

    def nearest(self, weights: Floats) -> Floats:
        """The numbers nearest to weights of the ranges' shape, or of one more axis, a group's inputs."""
        scale, zero, reach = self.scale, self.zero, self.reach
        if weights.ndim > scale.ndim:
            scale, zero, reach = scale[..., None], zero[..., None], reach[..., None]
        found: Floats = np.clip(self.grid.nearest(weights / scale, zero), -reach, reach)
        return found

    def errors(self, blocks: Floats, importance: Floats) -> Floats:
        """Sums of weighted squared errors [O, groups] of `blocks` [O, groups, G]."""
        gaps = blocks - self.scale[..., None] * self.nearest(blocks)
        found: Floats = (gaps**2 * importance).sum(axis=-1)
        return found


def whole_range(blocks: Floats, grid: Grid, shrink: float = 1.0) -> Ranges:
    """Ranges of groups [O, groups, G] that reach `shrink` of the largest weights."""
    if isinstance(grid, IntegerGrid) and not grid.symmetric:
        low, high = shrink * np.minimum(blocks.min(-1), 0), shrink * np.maximum(blocks.max(-1), 0)
        scale = rounded_scale((high - low) / (grid.high - grid.low))
        return Ranges.of(grid, scale, np.clip(np.rint(-low / scale), grid.low, grid.high))
    scale = rounded_scale(shrink * np.abs(blocks).max(-1) / grid.most)
    return Ranges.of(grid, scale, np.zeros_like(scale))


def fit_ranges(blocks: Floats, importance: Floats, grid: Grid) -> Ranges:
    """Ranges of groups [O, groups, G] whose error, weighted by `importance` of that shape, is least."""
    best = np.full(blocks.shape[:-1], np.inf)
    scales, zeros = np.ones_like(best), np.zeros_like(best)
    for shrink in _SHRINKS if isinstance(grid, IntegerGrid) else [*_STRETCHES, *_SHRINKS]:
        tried = whole_range(blocks, grid, float(shrink))
        for _ in range(2):  # as the range says, then fitted to what was rounded
            numbers = tried.nearest(blocks)
            error = ((blocks - tried.scale[..., None] * numbers) ** 2 * importance).sum(-1)
            better = error < best
            best = np.where(better, error, best)
            scales, zeros = np.where(better, tried.scale, scales), np.where(better, tried.zero, zeros)
            norm = (numbers**2 * importance).sum(-1)
            fitted = (blocks * numbers * importance).sum(-1) / np.where(norm > 0, norm, 1)
            scale = rounded_scale(np.where((norm > 0) & (fitted > 0), fitted, tried.scale))
            tried = Ranges.of(grid, scale, tried.zero)
    return Ranges.of(grid, scales, zeros)


def rounded_scale(scale: Floats) -> Floats:
    """As it is stored: the nearest positive float16 where all are ordinary numbers of it, else float32."""
    positive = np.where(scale > 0, scale, 1.0)
    half = float(positive.min()) >= 2.0**-14 and float(positive.max()) <= 60000
    return positive.astype(np.float16 if half else np.float32).astype(np.float64)
