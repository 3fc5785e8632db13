"""One weight is pruned: the least important blocks go, and those that stay make up for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .low_rank.problem import Problem
from .pruning_scores import Score, importances
from .refitting import refit_kept
from .sparsity_pattern import BlockPattern, Pattern

__all__ = ["Pruned", "Request", "block_scores", "prune_weight"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Request:
    """What is asked for: `lost` blocks go where that is given, else the share `sparsity`."""

    pattern: Pattern
    sparsity: float
    score: Score
    refit: bool
    lost: int | None = None


@dataclass(frozen=True)
class Pruned:
    """A weight [O, I, ...] float32 with zeros, and what its bias [O] grows by, where there is data.

    `error` is the error of the layer's outputs, as a share of their energy, and `unfitted` what it was
    before the weights that stay were refitted; None without data.
    """

    weight: npt.NDArray[np.float32]
    shift: Array | None = None
    error: float | None = None
    unfitted: float | None = None


def block_scores(problem: Problem, request: Request) -> tuple[Array, Array]:
    """What a weight of each block matters as a share of its layer's mean, and how many it has.

    The shares of two layers compare, whatever the scales of their weights and activations.
    """
    assert isinstance(request.pattern, BlockPattern)
    shape = problem.weight.shape
    scores = request.pattern.pooled(_importances(problem, request, _dense(problem)).reshape(shape))
    sizes = request.pattern.sizes(shape)
    mean = float((scores * sizes).sum() / sizes.sum())
    return scores / mean if mean > 0 else scores, sizes


def prune_weight(problem: Problem, request: Request) -> Pruned:
    """`problem.weight` with zeros where its least important blocks were; refitted where there are rows."""
    dense, shape = _dense(problem), problem.weight.shape
    keep = request.pattern.keep(
        _importances(problem, request, dense).reshape(shape), request.sparsity, request.lost
    ).reshape(dense.shape)
    if problem.rows is None:
        return Pruned(np.where(keep, dense, 0).astype(np.float32).reshape(shape))
    target, moments = problem.matrix, problem.moments()
    bare = np.where(keep, dense, 0)
    fitted = refit_kept(target, keep, moments) if request.refit else bare
    return Pruned(
        fitted.astype(np.float32).reshape(shape),
        problem.bias_shift(fitted) if request.refit else None,
        _error(fitted, target, moments),
        _error(bare, target, moments),
    )


def _dense(problem: Problem) -> Array:
    return problem.weight.reshape(problem.outputs, -1).astype(np.float64)


def _importances(problem: Problem, request: Request, dense: Array) -> Array:
    score = "magnitude" if problem.rows is None else request.score
    columns = request.pattern.columns if isinstance(request.pattern, BlockPattern) else 1
    return importances(dense, score, None if score == "magnitude" else problem.moments(), columns)


def _error(weight: Array, target: Array, moments: Array) -> float:
    """The energy that outputs lose, as a share of what they have."""
    off = weight - target
    energy = float(np.sum((target @ moments) * target))
    return float(np.sum((off @ moments) * off)) / energy if energy > 0 else 0.0
