"""Scales and zero points of groups: spanning the whole range, or of least weighted squared error.

To find the latter the range is shrunk step by step, so that the largest weights are clipped and the others
get a finer grid, and the scale is fitted again to the numbers that weights were rounded to.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .grids import Floats, Grid, IntegerGrid

__all__ = ["fit_ranges", "rounded_scale", "whole_range"]

_SHRINKS = np.linspace(1.0, 0.5, 21)


def whole_range(weights: Floats, grid: Grid, shrink: float = 1.0) -> tuple[Floats, Floats]:
    """Scales and zero points [...] of groups [..., G] that reach `shrink` of the largest weights."""
    if isinstance(grid, IntegerGrid) and not grid.symmetric:
        low, high = shrink * np.minimum(weights.min(-1), 0), shrink * np.maximum(weights.max(-1), 0)
        scale = rounded_scale((high - low) / (grid.high - grid.low))
        return scale, np.clip(np.rint(-low / scale), grid.low, grid.high)
    scale = rounded_scale(shrink * np.abs(weights).max(-1) / grid.most)
    return scale, np.zeros_like(scale)


def fit_ranges(weights: Floats, importance: Floats, grid: Grid) -> tuple[Floats, Floats]:
    """Scales and zero points [...] of groups [..., G] whose error, weighted by `importance`, is least."""
    best = np.full(weights.shape[:-1], np.inf)
    scales, zeros = np.ones_like(best), np.zeros_like(best)
    for shrink in _SHRINKS:
        scale, zero = whole_range(weights, grid, float(shrink))
        for _ in range(2):  # as the range says, then fitted to what was rounded
            numbers = grid.nearest(weights / scale[..., None], zero[..., None])
            error = ((weights - scale[..., None] * numbers) ** 2 * importance).sum(-1)
            better = error < best
            best = np.where(better, error, best)
            scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros)
            norm = (numbers**2 * importance).sum(-1)
            fitted = (weights * numbers * importance).sum(-1) / np.where(norm > 0, norm, 1)
            scale = rounded_scale(np.where((norm > 0) & (fitted > 0), fitted, scale))
    return scales, zeros


def rounded_scale(scale: Floats) -> Floats:
    """As it is stored: the nearest positive float16 where all are ordinary numbers of it, else float32."""
    positive = np.where(scale > 0, scale, 1.0)
    return positive.astype(scale_type(positive)).astype(np.float64)


def scale_type(scale: npt.NDArray[np.floating]) -> type[np.float16] | type[np.float32]:
    """float16 where all scales, or those to be rounded, are ordinary numbers of it."""
    half = float(scale.min()) >= 2.0**-14 and float(scale.max()) <= 60000
    return np.float16 if half else np.float32
