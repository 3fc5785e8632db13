"""The order of one set of channels that suits all layers whose outputs they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .axes import Positions
from .grouping import Array, Rows, best_order, block_means, kept_worth

__all__ = ["Score", "Target", "kept_share", "mean_worth", "order_channels", "worth_of"]

Score = Literal["l1", "l2"]


@dataclass(frozen=True)
class Target:
    """A layer's weights [O, ...] and how they will be pruned: in groups of `rows` outputs, all but `share`.

    With `cut` the blocks stay whose mean worth is at least that.
    """

    weights: npt.NDArray[Any]
    rows: int
    share: float
    score: Score
    cut: float | None = None


def worth_of(weights: npt.NDArray[Any], score: Score) -> Array:
    """What is lost with each weight: [O, columns] float32, its magnitude or its square."""
    matrix = weights.reshape(len(weights), -1).astype(np.float32)
    return np.abs(matrix) if score == "l1" else np.square(matrix)


def mean_worth(target: Target) -> Array:
    """The mean worth of each block: [groups, columns]."""
    worth = worth_of(target.weights, target.score)
    return block_means(worth, np.arange(0, len(worth), target.rows))


def kept_share(target: Target, order: Positions) -> tuple[float, float, float]:
    """Worth kept with the outputs as they are, and in `order`, and the worth of all weights."""
    worth = worth_of(target.weights, target.score)
    before, after = (kept_worth(w, target.rows, target.share, target.cut) for w in (worth, worth[order]))
    return before, after, float(worth.sum(dtype=np.float64))


def order_channels(targets: Sequence[Target], positions: Sequence[Positions]) -> Positions:
    """Place i gets channel `order[i]`, int64 [channels]; the channels are outputs `positions[j]` of target j.

    Places change channels only in groups that lie within the set, and targets that group the places unlike
    the largest one have no say.
    """
    given = np.arange(len(positions[0]))
    groupings = [_groups(t, p) for t, p in zip(targets, positions, strict=True)]
    sizes = [
        sum(t.weights.size for t, g in zip(targets, groupings, strict=True) if np.array_equal(g, own))
        for own in groupings
    ]
    chosen = groupings[int(np.argmax(sizes))]
    places = np.argsort(chosen, kind="stable")[np.count_nonzero(chosen < 0) :]
    labels = chosen[places]
    if len(np.unique(labels)) < 2:
        return given
    starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    rows = [
        _rows(target, at, places)
        for target, at, own in zip(targets, positions, groupings, strict=True)
        if np.array_equal(own, chosen)
    ]
    order = given.copy()
    order[places] = places[best_order(rows, starts)]
    return order


def _groups(target: Target, positions: Positions) -> Positions:
    """The group of each channel, numbered as they appear; -1 where others than the set's are in it."""
    group = positions // target.rows
    first = group * target.rows
    size = np.minimum(first + target.rows, len(target.weights)) - first
    _, inverse, counts = np.unique(group, return_inverse=True, return_counts=True)
    whole = counts[inverse] == size
    numbers = dict[int, int]()
    return np.asarray(
        [numbers.setdefault(g, len(numbers)) if w else -1 for g, w in zip(group.tolist(), whole, strict=True)]
    )


def _rows(target: Target, positions: Positions, places: Positions) -> Rows:
    """The worth of the channels at `places`, and of the blocks that none of them is in."""
    worth = worth_of(target.weights, target.score)
    means = block_means(worth, np.arange(0, len(worth), target.rows))
    others = np.setdiff1d(np.arange(len(means)), positions[places] // target.rows)
    return Rows(worth[positions[places]], target.share, means[others].ravel(), target.cut)
