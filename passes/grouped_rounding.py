"""Rounds a weight [O, K] to the grids of tiny groups, and says which weights to keep beside them (SpQR).

Without calibration data each weight is rounded to the nearest. With rows X [n, K] that the layer reads, the
columns are rounded one after another, and what rounding one changes in X W' is made up for by those that are
still to come (GPTQ, arXiv:2210.17323): with H = X' X and inverse(H) = U' U, U upper triangular,

    e = (w_j - rounded_j) / U_jj         w_i -= e U_ji  for every i > j

so that e^2 is what the column adds to the error of the outputs, and 1 / U_jj^2 weighs an error in column j.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.outliers import largest, outlier_parts
from gossamer.kernels.formats.spqr import pack_spqr
from gossamer.kernels.group_grid import Group, GroupForm, fit_group, quantize_codes, scale_unit

from .storing import Stored

__all__ = ["inverse_factor", "outlier_scores", "round_groups"]

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_DAMPING = 0.01  # of the mean second moment, added to each: keeps H well-conditioned
_MOST_LEFT_OUT = 4  # of the largest and smallest weights of a group, tried as outliers together
_AT_ONCE = 2**18  # weights whose scores are computed together: their tables stay in cache


@dataclass(frozen=True)
class Rounded:
    """Codes and grid of each group, and the weight they and the outliers decode to."""

    groups: list[tuple[npt.NDArray[np.uint8], Group]]
    decoded: Float


def round_groups(weight: Array, rows: Float | None, form: GroupForm, outliers: float) -> Stored:
    """`weight` (float32 [O, ...]) in the format spqr, with the share `outliers` of it in the format outliers.

    `rows` float32 [n, K] are those that the layer reads, None without calibration data.
    """
    matrix = np.ascontiguousarray(weight.reshape(len(weight), -1))
    factor = None if rows is None else inverse_factor(rows)
    metric = np.ones(matrix.shape[1]) if factor is None else np.diag(factor) ** -2.0
    mask = largest(outlier_scores(matrix, metric, form.group), outliers)
    unit = scale_unit(matrix)
    rounded = _round(matrix, mask, factor, form, unit)
    base = Stored("spqr", pack_spqr(weight.shape, form, unit, rounded.groups))
    if not mask.any():
        return base
    return Stored("outliers", {"base": base, **outlier_parts(rounded.decoded, mask)})


def inverse_factor(rows: Float) -> Float:
    """U, upper triangular, with inverse(X' X / n, damped) = U' U, for rows X [n, K]: float64 [K, K]."""
    moments = rows.astype(np.float64).T @ rows.astype(np.float64) / len(rows)
    diagonal = np.einsum("ii->i", moments)
    mean = float(diagonal.mean())
    diagonal += _DAMPING * mean if mean > 0 else 1.0  # a view: changes `moments`
    # reversed, the lower factor of H gives the upper factor of its inverse without inverting H
    lower = np.linalg.cholesky(moments[::-1, ::-1])[::-1, ::-1]
    return np.linalg.inv(lower)


def outlier_scores(matrix: Float, metric: Array, group: int) -> Float:
    """What keeping a weight out of its group saves of the layer's error, by estimate: float32 [O, K].

    The error of a grid grows with the square of its range, which up to four of a group's largest and smallest
    weights may decide together. `metric` [K] weighs errors of the columns.
    """
    inputs = matrix.shape[1]
    groups = -(-inputs // group)
    padding = (0, groups * group - inputs)
    weighed = np.pad(metric, padding).reshape(groups, group).sum(axis=1).astype(np.float32)
    found = np.empty_like(matrix)
    height = max(1, _AT_ONCE // inputs)
    for first in range(0, len(matrix), height):
        part = slice(first, first + height)
        blocks = np.pad(matrix[part], ((0, 0), padding)).reshape(-1, groups, group)
        order = np.argsort(blocks, axis=2, kind="stable")
        ranked = np.take_along_axis(blocks, order, axis=2)
        scores = np.empty_like(ranked)
        np.put_along_axis(scores, order, _scores_of_ranked(ranked) * weighed[:, None], axis=2)
        found[part] = scores.reshape(len(scores), -1)[:, :inputs]
    return found


def _scores_of_ranked(ranked: Float) -> Float:
    """What leaving out each of the weights [O, G, B1], ascending along the last axis, saves of squared range.

    Of all ways to leave out some at both ends the one that saves most for each of them is taken; then the
    same among those that are left.
    """
    group = ranked.shape[2]
    most = min(_MOST_LEFT_OUT, group - 1)
    ways = [(a, b) for a in range(most + 1) for b in range(most + 1 - a)]
    below, above = (np.array(ends, np.int8)[:, None, None] for ends in zip(*ways, strict=True))
    # the range always holds zero, as that of a grid does
    low = [np.minimum(ranked[:, :, a], 0) for a in range(most + 1)]
    high = [np.maximum(ranked[:, :, group - 1 - b], 0) for b in range(most + 1)]
    squares = np.stack([(high[b] - low[a]) ** 2 for a, b in ways])
    scores = np.zeros_like(ranked)
    state = np.zeros(ranked.shape[:2], np.int64)  # the way taken so far
    place = np.arange(group)
    for _ in range(most):
        had_below, had_above = below[state, 0, 0], above[state, 0, 0]
        more = below + above - had_below - had_above
        longer = (below >= had_below) & (above >= had_above) & (more > 0)
        saved = np.take_along_axis(squares, state[None], axis=0) - squares
        gains = np.where(longer, saved / np.maximum(more, 1).astype(np.float32), np.float32(-1))
        best = gains.argmax(axis=0)
        gain = np.take_along_axis(gains, best[None], axis=0)[0]
        taken = (place < below[best, 0]) & (place >= had_below[..., None])
        taken |= (place >= group - above[best, 0]) & (place < group - had_above[..., None])
        scores = np.where(taken, np.maximum(gain, 0)[..., None], scores)
        state = np.where(gain > 0, best, state)
    return scores


def _round(matrix: Float, mask: Mask, factor: Array | None, form: GroupForm, unit: np.float32) -> Rounded:
    left = matrix.copy()  # of the columns still to come, with what earlier ones left
    decoded = np.empty_like(matrix)
    groups = []
    for first in range(0, matrix.shape[1], form.group):
        own = slice(first, first + form.group)
        group = fit_group(left[:, own], ~mask[:, own], form, unit)
        if factor is None:
            codes = quantize_codes(left[:, own], group, form)
            decoded[:, own] = _decoded(codes, group, left[:, own], mask[:, own])
        else:
            codes = _round_columns(left, decoded, mask, factor, own, group, form)
        groups.append((codes, group))
    return Rounded(groups, decoded)


def _decoded(codes: npt.NDArray[np.uint8], group: Group, block: Float, mask: Mask) -> Float:
    values = group.scale[:, None] * (codes.astype(np.float32) - group.zero[:, None])
    return np.where(mask, block, values)


def _round_columns(
    left: Float, decoded: Float, mask: Mask, factor: Array, own: slice, group: Group, form: GroupForm
) -> npt.NDArray[np.uint8]:
    """Rounds the columns `own` one by one, each making up for those before it; `left` is changed."""
    columns = range(*own.indices(left.shape[1]))
    codes = np.empty((len(left), len(columns)), np.uint8)
    errors = np.empty((len(left), len(columns)), np.float32)
    for i, j in enumerate(columns):
        one, to = slice(i, i + 1), slice(j, j + 1)
        codes[:, one] = quantize_codes(left[:, to], group, form)
        decoded[:, to] = _decoded(codes[:, one], group, left[:, to], mask[:, to])
        errors[:, one] = (left[:, to] - decoded[:, to]) / np.float32(factor[j, j])
        after = slice(j + 1, columns[-1] + 1)
        left[:, after] -= errors[:, one] * factor[j, after].astype(np.float32)
    behind = slice(columns[-1] + 1, None)
    left[:, behind] -= errors @ factor[own, behind].astype(np.float32)
    return codes
