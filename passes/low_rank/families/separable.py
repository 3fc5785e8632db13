"""A column of a window, then a row: r planes in between.

    Conv(x, W [O, I, kh, kw]) = Conv(Conv(x, A [r, I, kh, 1]), B [O, r, 1, kw])

The weight as a matrix [O * kw, I * kh] is split like any other, each output taking as rows the columns of
the windows. With data, `B` is then the best for this `A`, by least squares over whole windows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..curve import Curve
from ..factors import Factors, balanced
from ..principal import principal_outputs
from ..problem import Array, Problem, Single

__all__ = ["curve", "factorise"]

_TRIED = 12  # ranks whose errors are computed; those between are interpolated


def curve(problem: Problem) -> Curve | None:
    """Ranks below the break-even, of windows with two axes longer than one."""
    if len(problem.kernel) != 2 or min(problem.kernel) < 2:
        return None
    outputs, inputs = problem.outputs * problem.kernel[1], problem.depth // problem.kernel[1]
    most = min(outputs, inputs, (problem.outputs * problem.depth - 1) // (outputs + inputs))
    basis, energies = principal_outputs(_columns(problem))
    basis, ranks = basis[:, :most], np.arange(1, most + 1)
    if problem.rows is None:
        tails = np.cumsum(energies[::-1])[::-1]
        errors = np.append(tails[1:], 0.0)[:most] / max(tails[0], 1e-300)
    else:
        tried = np.unique(np.geomspace(1, most, min(_TRIED, most)).round().astype(int))
        found = _Fit(problem, _down(problem, basis)).errors(tried)
        errors = np.exp(np.interp(ranks, tried, np.log(np.maximum(found, 1e-30))))
    work = ranks * (inputs * problem.stride + outputs)
    sizes = [(int(rank),) for rank in ranks]
    return Curve("separable", sizes, 4 * ranks * (inputs + outputs), work, errors, basis.astype(np.float32))


def factorise(problem: Problem, size: tuple[int, ...], basis: Single | None) -> Factors:
    """The column's factor from the curve's basis, and the best row's factor for it."""
    (rank,) = size
    directions = principal_outputs(_columns(problem))[0] if basis is None else basis
    found = directions[:, :rank].astype(np.float64)
    height, width = problem.kernel
    down = _down(problem, found)
    up = found if problem.rows is None else _Fit(problem, down).up(rank)
    product = np.einsum("owr,rih->oihw", up.reshape(-1, width, rank), down.reshape(rank, -1, height))
    shift = problem.bias_shift(product.reshape(problem.outputs, -1))
    up, down = balanced(up, down)
    return Factors(
        down.astype(np.float32).reshape(rank, -1, height, 1),
        up.reshape(-1, width, rank).swapaxes(1, 2)[:, :, None].astype(np.float32),
        None if shift is None else shift.astype(np.float32),
    )


def _columns(problem: Problem) -> Problem:
    """The problem whose weight is [O * kw, I * kh] and whose rows are the columns of windows."""
    height, width = problem.kernel
    weight = problem.matrix.reshape(problem.outputs, -1, height, width)
    turned = weight.transpose(0, 3, 1, 2).reshape(problem.outputs * width, -1).astype(np.float32)
    rows = None
    if problem.rows is not None:
        centred = (problem.rows - problem.mean.astype(np.float32)).reshape(
            -1, weight.shape[1] * height, width
        )
        rows = centred.swapaxes(1, 2).reshape(-1, centred.shape[1])
    return replace(problem, weight=turned, rows=rows, originals=None, centred=False)


def _down(problem: Problem, basis: Array) -> Array:
    """The column's factor [r, I * kh] that belongs to `basis` [O * kw, r]."""
    height, width = problem.kernel
    weight = problem.matrix.reshape(problem.outputs, -1, height, width)
    turned = weight.transpose(0, 3, 1, 2).reshape(problem.outputs * width, -1)
    return np.asarray(basis.T @ turned)


class _Fit:
    """Least squares of the outputs on what the columns give at each place of the window."""

    def __init__(self, problem: Problem, down: Array) -> None:
        assert problem.rows is not None
        height, width = problem.kernel
        count, rank = len(problem.rows), len(down)
        windows = (problem.rows - problem.mean.astype(np.float32)).reshape(count, -1, width)
        features = np.einsum("nkw,rk->nrw", windows, down.astype(np.float32), optimize=True)
        matrix = problem.matrix
        wanted = problem.outputs_of(matrix)
        turned = matrix.reshape(problem.outputs, -1, height, width).transpose(3, 1, 2, 0)
        flat = features.reshape(count, rank * width)
        self._gram = (flat.T @ flat).astype(np.float64) / count
        self._gram += problem.ridge * np.kron(down @ down.T, np.eye(width))
        own = np.einsum("rk,wko->rwo", down, turned.reshape(width, -1, problem.outputs))
        self._cross = (flat.T @ wanted) / count + problem.ridge * own.reshape(rank * width, -1)
        self._energy = float(np.sum(wanted**2) / count + problem.ridge * np.sum(matrix**2))
        self._width = width

    def _solution(self, rank: int) -> Array:
        size = rank * self._width
        gram = self._gram[:size, :size].copy()
        gram[np.diag_indices(size)] += 1e-9 * np.trace(gram) / size
        return np.asarray(np.linalg.solve(gram, self._cross[:size]))

    def errors(self, ranks: Array) -> Array:
        """The share of the outputs' energy that is lost at each rank."""
        lost = [
            self._energy - float(np.sum(self._solution(int(r)) * self._cross[: int(r) * self._width]))
            for r in ranks
        ]
        return np.maximum(lost, 0.0) / max(self._energy, 1e-300)

    def up(self, rank: int) -> Array:
        """The row's factor [O * kw, r]."""
        found = self._solution(rank).reshape(rank, self._width, -1)
        return np.asarray(found.transpose(2, 1, 0).reshape(-1, rank))
