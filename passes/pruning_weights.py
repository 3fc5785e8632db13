"""One weight is pruned: the least important blocks go, and those that stay make up for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .low_rank.problem import Problem
from .pruning_scores import DATA_FREE, Score, importances
from .refitting import Refitter
from .sparsity_pattern import BlockPattern, Pattern

__all__ = ["Pruned", "Request", "block_scores", "prune_weight"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Request:
    """What is asked for: `lost` blocks go where that is given, else the share `sparsity`."""

    pattern: Pattern
    sparsity: float
    score: Score
    refit: bool
    rounds: int = 1
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
    problem = _checked(problem)
    shape = problem.weight.shape
    scores = request.pattern.pooled(_importances(problem, request, _dense(problem)).reshape(shape))
    sizes = request.pattern.sizes(shape)
    mean = float((scores * sizes).sum() / sizes.sum())
    return scores / mean if mean > 0 else scores, sizes


def prune_weight(problem: Problem, request: Request) -> Pruned:
    """`problem.weight` with zeros where its least important blocks were.

    Where there are rows, the weights that stay are refitted; then blocks go in `request.rounds` rounds, fewer
    in each, and are ranked again by the weights that make up for those that went before.
    """
    problem = _checked(problem)
    dense, shape = _dense(problem), problem.weight.shape
    if problem.rows is None or not request.refit:
        keep = _keep(request, _importances(problem, request, dense), shape).reshape(shape)
        bare = np.where(keep, problem.weight, np.float32(0))
        error = None if problem.rows is None else _error(bare.reshape(dense.shape), dense, problem.moments())
        return Pruned(bare, error=error, unfitted=error)
    refitter = Refitter(problem.matrix, problem.moments())
    weight, keep = refitter.target, np.ones(dense.shape, bool)
    for share in _schedule(request):
        scores = _scores_of_kept(weight, keep, request, refitter)
        keep = _keep(request, np.where(keep, scores, -1.0), shape, share)
        weight = refitter.fit(keep)
    return Pruned(
        weight.astype(np.float32).reshape(shape),
        problem.bias_shift(weight),
        _error(weight, refitter.target, refitter.moments),
        _error(np.where(keep, dense, 0), refitter.target, refitter.moments),
    )


def _checked(problem: Problem) -> Problem:
    """The problem, without its rows where their squares overflow: such rows say nothing of what matters."""
    given = [rows for rows in (problem.rows, problem.originals) if rows is not None]
    with np.errstate(over="ignore", invalid="ignore"):
        if all(np.isfinite(np.sum(np.square(rows))) for rows in given):
            return problem
    return replace(problem, rows=None, originals=None)


def _schedule(request: Request) -> list[float]:
    """The share of what goes that has gone after each round: 1 - (1 - t / T)^(3/2), fewer in each."""
    rounds = request.rounds if isinstance(request.pattern, BlockPattern) else 1
    return [1 - (1 - t / rounds) ** 1.5 for t in range(1, rounds + 1)]


def _keep(request: Request, scores: Array, shape: tuple[int, ...], share: float = 1.0) -> Mask:
    """Which entries [O, K] stay when `share` of what shall go has gone."""
    lost = None if request.lost is None else round(share * request.lost)
    keep = request.pattern.keep(scores.reshape(shape), share * request.sparsity, lost)
    return keep.reshape(len(keep), -1)


def _scores_of_kept(weight: Array, keep: Mask, request: Request, refitter: Refitter) -> Array:
    columns = request.pattern.columns if isinstance(request.pattern, BlockPattern) else 1
    if request.score == "second-order" and columns == 1:
        return np.asarray(np.square(weight) / refitter.spread(keep))
    return importances(weight, request.score, refitter.moments, columns)


def _dense(problem: Problem) -> Array:
    return problem.weight.reshape(problem.outputs, -1).astype(np.float64)


def _importances(problem: Problem, request: Request, dense: Array) -> Array:
    score, needless = request.score, request.score in DATA_FREE
    if problem.rows is None and not needless:
        score, needless = "relative", True
    columns = request.pattern.columns if isinstance(request.pattern, BlockPattern) else 1
    return importances(dense, score, None if needless else problem.moments(), columns)


def _error(weight: Array, target: Array, moments: Array) -> float:
    """The energy that outputs lose, as a share of what they have."""
    off = weight - target
    energy = float(np.sum((target @ moments) * target))
    return float(np.sum((off @ moments) * off)) / energy if energy > 0 else 0.0
