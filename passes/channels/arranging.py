"""The order of one set of channels that suits all layers whose outputs they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .axes import Positions
from .grouping import Array, Rows, best_order, block_means, kept_worth

__all__ = ["Score", "Target", "kept_share", "order_channels"]

Score = Literal["l1", "l2"]


@dataclass(frozen=True)
class Target:
    """A layer's weights [O, ...] and how they will be pruned: the share `share` of groups of `rows` outputs.

    `relative`: channels are ordered as if each had as much worth as any other.
    """

    weights: npt.NDArray[Any]
    rows: int
    share: float
    score: Score = "l2"
    relative: bool = True

    def worth(self) -> Array:
        """What is lost with each weight, its magnitude or its square: [O, columns] float32."""
        matrix = self.weights.reshape(len(self.weights), -1).astype(np.float32)
        return np.abs(matrix) if self.score == "l1" else np.square(matrix)

    def searched_worth(self) -> Array:
        """The worth that channels are ordered by."""
        worth = self.worth()
        if self.relative:
            sums = worth.sum(axis=1, keepdims=True)
            worth *= worth.shape[1] / np.where(sums > 0, sums, 1)
        return worth

    def means(self) -> tuple[Array, Positions]:
        """The mean worth of each block, as a share of the layer's mean, and its size: [groups, columns]."""
        worth = self.worth()
        starts = np.arange(0, len(worth), self.rows)
        sizes = np.diff(np.append(starts, len(worth)))[:, None]
        means = block_means(worth, starts)
        return means / max(float(worth.mean()), 1e-30), np.broadcast_to(sizes, means.shape)


def kept_share(target: Target, order: Positions) -> tuple[float, float, float]:
    """Worth kept with the outputs as they are, and in `order`, and the worth of all weights."""
    worth = target.worth()
    before, after = (kept_worth(each, target.rows, target.share) for each in (worth, worth[order]))
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
    worth = target.searched_worth()
    means = block_means(worth, np.arange(0, len(worth), target.rows))
    others = np.setdiff1d(np.arange(len(means)), positions[places] // target.rows)
    return Rows(worth[positions[places]], target.share, means[others].ravel())
