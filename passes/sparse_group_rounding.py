"""Surviving groups of weights rounded to 4 bits, errors made up for by later inputs.

Each group is w = s (q - z) with q and z in 0 to 15. Its range is shrunk step by step and the scale fitted
again to what was rounded; the best by the weighted squared error is taken. With rows that the layer reads,
later inputs make up for what a group changes in the outputs, a pruned group too (SparseGPT, Frantar and
Alistarh 2023, arXiv:2301.00774).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.kernels.formats.group_sparse_int4 import Groups

__all__ = ["fit_scales", "round_survivors"]

Float = npt.NDArray[Any]
Half = npt.NDArray[np.float32]  # values of float16
Mask = npt.NDArray[np.bool_]
_LEVELS = 15
_SHRINKS = 16  # ranges that are tried
_LEAST = 0.55  # of the whole range


def round_survivors(
    weight: npt.NDArray[np.float32], alive: Mask, group: int, second: Float, factor: Float | None = None
) -> Groups:
    """The groups of `weight` [N, K] that are `alive` [N, ceil(K / group)], rounded.

    An error in input k counts by `second` [K], E[x_k^2] or ones. `factor` is U, upper triangular, with
    U' U = inverse(E[x x']), by which errors are made up for; without it they are not.
    """
    depth = weight.shape[1]
    work = weight.astype(np.float64)
    levels = np.zeros((*alive.shape, group), np.uint8)
    scales = np.zeros(alive.shape, np.float32)
    zeros = np.zeros(alive.shape, np.uint8)
    for number in range(alive.shape[1]):
        part = slice(number * group, min(depth, (number + 1) * group))
        rows, width = alive[:, number], min(group, depth - number * group)
        scale, zero = fit_scales(work[rows, part], second[part])
        scales[rows, number], zeros[rows, number] = scale, zero
        if factor is None:
            levels[rows, number, :width] = _rounded(work[rows, part], scale[:, None], zero[:, None])
        else:
            levels[:, number, :width] = _round_inputs(work, part, rows, scale, zero, factor)
        levels[rows, number, width:] = zero[:, None]  # beyond the last input: zero
    starts = np.concatenate([[0], np.cumsum(alive.sum(axis=1))])
    return Groups(weight.shape, levels[alive], scales[alive], zeros[alive], np.nonzero(alive)[1], starts)


def fit_scales(weights: Float, importance: Float) -> tuple[Half, Float]:
    """(scales, zero points) of rows [n, G]: those of least error."""
    low, high = np.minimum(weights.min(axis=1), 0), np.maximum(weights.max(axis=1), 0)
    best = np.full(len(weights), np.inf)
    scales, zeros = np.ones(len(weights), np.float32), np.zeros(len(weights))
    for shrink in np.linspace(1, _LEAST, _SHRINKS):
        scale = _half(shrink * (high - low) / _LEVELS)
        zero = np.clip(np.rint(-shrink * low / scale), 0, _LEVELS)
        for _ in range(2):  # as the range says, then fitted to what was rounded
            centred = _rounded(weights, scale[:, None], zero[:, None]) - zero[:, None]
            error = (weights - scale[:, None] * centred) ** 2 @ importance
            better = error < best
            best[better], scales[better], zeros[better] = error[better], scale[better], zero[better]
            norm = centred**2 @ importance
            fitted = (weights * centred) @ importance / np.where(norm > 0, norm, 1)
            scale = _half(np.where((norm > 0) & (fitted > 0), fitted, scale))
    return scales, zeros


def _half(scale: Float) -> Half:
    """The nearest positive float16."""
    limits = np.finfo(np.float16)
    held = np.clip(scale, limits.smallest_subnormal, limits.max)
    found: Half = held.astype(np.float16).astype(np.float32)
    return found


def _rounded(weights: Float, scale: Half, zero: Float) -> Float:
    """q, as floats."""
    found: Float = np.clip(np.rint(weights / scale) + zero, 0, _LEVELS)
    return found


def _round_inputs(work: Float, part: slice, rows: Mask, scale: Half, zero: Float, factor: Float) -> Float:
    """q of the inputs `part` for all rows of `work`, whose later inputs make up for the errors."""
    width = part.stop - part.start
    levels, errors = np.zeros((len(work), width)), np.empty((len(work), width))
    for place in range(width):
        k = part.start + place
        stored = np.zeros(len(work))
        levels[rows, place] = _rounded(work[rows, k], scale, zero)
        stored[rows] = scale * (levels[rows, place] - zero)
        errors[:, place] = (work[:, k] - stored) / factor[k, k]
        work[:, k + 1 : part.stop] -= errors[:, place, None] * factor[k, k + 1 : part.stop]
    work[:, part.stop :] -= errors @ factor[part, part.stop :]
    return levels
