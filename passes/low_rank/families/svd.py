"""Two products of rank r: the window of a convolution stays with the first, the second is 1 x 1.

Conv(x, W [O, I, kh, kw]) = Conv(Conv(x, A [r, I, kh, kw]), B [O, r, 1, 1])
x @ W^T                   = (x @ A^T) @ B^T
"""

from __future__ import annotations

import numpy as np

from ..curve import Curve
from ..factors import Factors, balanced
from ..principal import principal_outputs
from ..problem import Problem, Single

__all__ = ["curve", "directions", "factorise"]


def curve(problem: Problem) -> Curve | None:
    """Every rank below the break-even O * K / (O + K)."""
    return directions(problem).below(4 * problem.outputs * problem.depth, problem.outputs * problem.depth)


def directions(problem: Problem) -> Curve:
    """Every rank."""
    basis, energies = principal_outputs(problem)
    tails = np.cumsum(energies[::-1])[::-1]
    ranks = np.arange(1, len(energies) + 1)
    costs = ranks * (problem.outputs + problem.depth)
    errors = np.append(tails[1:], 0.0) / max(tails[0], 1e-300)
    sizes = [(int(rank),) for rank in ranks]
    return Curve("svd", sizes, 4 * costs, costs, errors, basis.astype(np.float32), np.sqrt(energies))


def factorise(problem: Problem, size: tuple[int, ...], basis: Single | None) -> Factors:
    """The projection of the weight on its first outputs."""
    (rank,) = size
    directions = principal_outputs(problem)[0] if basis is None else basis
    up = directions[:, :rank].astype(np.float64)
    down = up.T @ problem.matrix
    shift = problem.bias_shift(up @ down)
    up, down = balanced(up, down)
    return Factors(
        down.astype(np.float32).reshape(rank, *problem.weight.shape[1:]),
        up.astype(np.float32).reshape(problem.outputs, rank, *[1] * len(problem.kernel)),
        None if shift is None else shift.astype(np.float32),
    )
