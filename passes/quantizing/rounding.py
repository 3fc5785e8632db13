"""A weight becomes int8: its scales, each integer, and what rounding shifts the layer's outputs by.

With rows that the layer reads, columns are rounded one after another and later ones make up for the error
of those before (passes/clustering/compensation.py); without, each weight goes to the nearest integer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gossamer.kernels.quantization import dequantize_linear, quantize_linear

from ..clustering.compensation import assign_compensated
from ..clustering.inputs import Measured
from .grid import Grid, quantize_rows, weight_grid

__all__ = ["Rounded", "Rounding", "round_weight"]

Floats = npt.NDArray[np.float32]
_SHARES = np.linspace(1.0, 0.8, 21)  # of a row's largest weight that its grid may end at
_TOP = 127


@dataclass(frozen=True)
class Rounding:
    """How one weight is rounded; `search` tries smaller scales, `compensate` and `correct` need rows."""

    per_channel: bool = True
    search: bool = False
    compensate: bool = False
    damping: float = 0.01
    correct: bool = False


@dataclass(frozen=True)
class Rounded:
    """`integers` int8, outputs first, on `grid`; `shift` [O] float64 is what outputs lack on average."""

    integers: npt.NDArray[np.int8]
    grid: Grid
    shift: npt.NDArray[np.float64] | None


def round_weight(
    weight: Floats, rows: Floats | None, groups: int, how: Rounding, reads: Grid | None = None
) -> Rounded:
    """`weight` [O, K, ...] float32, of which each of `groups` reads its part of `rows` [n, groups * K].

    `reads` is the grid on which the layer will read its rows.
    """
    taps = int(np.prod(weight.shape[2:]))
    known = Measured(rows, groups, taps) if rows is not None and len(rows) else None
    flat = np.ascontiguousarray(weight.reshape(len(weight), -1))
    grid = weight_grid(weight, per_channel=how.per_channel)
    if how.search:
        grid = _searched(flat, grid, known)
    if known is not None and how.compensate:
        integers = _compensated(flat, grid, known, how.damping)
    else:
        integers = quantize_rows(flat, grid)
    shift = None
    if rows is not None and how.correct and reads is not None:
        shift = _mean_error(flat, dequantize_linear(integers, grid.scale, None, axis=0), rows, groups, reads)
    return Rounded(integers.reshape(weight.shape), grid, shift)


def _searched(flat: Floats, grid: Grid, known: Measured | None) -> Grid:
    """The scales, at most those of `grid`, that give the least squared error, weighed by the inputs'
    moments."""
    each = known.moments() if known is not None else np.ones((1, flat.shape[1]), np.float32)
    weights = np.repeat(each, len(flat) // len(each), axis=0)
    best = np.full(grid.scale.shape, np.inf)
    scale = grid.scale
    for share in _SHARES:
        tried = Grid(np.asarray(grid.scale * np.float32(share), np.float32), grid.zero_point)
        back = dequantize_linear(quantize_rows(flat, tried), tried.scale, None, axis=0)
        error = ((back - flat) ** 2 * weights).sum(axis=1, dtype=np.float64)
        error = error if scale.shape else error.sum()
        scale = np.where(error < best, tried.scale, scale)
        best = np.minimum(best, error)
    return Grid(np.asarray(scale, np.float32), grid.zero_point)


def _compensated(flat: Floats, grid: Grid, known: Measured, damping: float) -> npt.NDArray[np.int8]:
    scale = grid.scale.astype(np.float64)

    def decode(values: npt.NDArray[np.float64], _: int) -> npt.NDArray[np.float64]:
        return np.asarray(np.clip(np.rint(values / scale), -_TOP, _TOP) * scale)

    decoded = assign_compensated(flat.astype(np.float64), known.grams(), damping, decode)
    return np.asarray(np.rint(decoded / (scale[:, None] if scale.shape else scale)), np.int8)


def _mean_error(
    flat: Floats, decoded: Floats, rows: Floats, groups: int, reads: Grid
) -> npt.NDArray[np.float64]:
    """Mean of the outputs less that of the quantised layer's: E[x] W' - E[Q(x)] Q(W)', [O]."""
    integers = quantize_linear(rows, reads.scale, reads.zero_point)
    seen = dequantize_linear(integers, reads.scale, reads.zero_point)
    before, after = (x.mean(axis=0, dtype=np.float64).reshape(groups, -1) for x in (rows, seen))
    shape = (groups, len(flat) // groups, -1)
    wanted = np.einsum("gok,gk->go", flat.reshape(shape), before)
    return np.asarray((wanted - np.einsum("gok,gk->go", decoded.reshape(shape), after)).reshape(-1))
