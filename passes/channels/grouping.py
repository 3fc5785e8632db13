"""Which rows of weights belong together: those whose large weights lie in the same columns.

Rows of a matrix are put into groups; of all blocks (a group x one column) the share that is worth least is
pruned. What is kept,

    R = sum of the worth of the blocks that stay,

is made large (SparseByteNN's rearrangement): rows are first joined greedily by how alike
they are, then rows of two groups change places while R grows. For a threshold t, R grows where the sum of
max(block - t, 0) does. Which rows may gain by changing places is found for all pairs at once, as if the
blocks that are kept stayed the same; the best are then computed exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .axes import Positions

__all__ = ["Rows", "best_order", "block_means", "kept_worth"]

Array = npt.NDArray[np.float32]
Gains = npt.NDArray[np.float64]
_PARTNERS = 4  # pairs tried exactly, for each row
_CHUNK = 1 << 22  # numbers held at once while pairs are tried
_WORK = 6e9  # multiply-adds and elements that one search may take, about
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 100
_SMALL = 2e7  # elements x rows up to which the search also starts from the given order


@dataclass(frozen=True)
class Rows:
    """One layer's weights of the channels to be ordered.

    worth: [channels, columns] float32, not negative: what is lost with each weight
    share: of the layer's blocks that go
    rest:  mean worth of the layer's other blocks, [n] float32
    """

    worth: Array
    share: float
    rest: Array

    def threshold(self, means: Array) -> float:
        """The mean worth above which a block stays, where those of these rows are `means`."""
        return _cut_of(np.append(means, self.rest), self.share)


def _cut_of(means: Array, share: float) -> float:
    """The mean worth of the least block that stays, of blocks with these `means`."""
    lost = min(round(share * means.size), means.size - 1)
    return float(np.partition(means, lost, axis=None).flat[lost])


def block_means(worth: Array, starts: Positions) -> Array:
    """The mean of each block: [groups, columns] for rows [n, columns] whose groups begin at `starts`."""
    means: Array = np.add.reduceat(worth, starts, axis=0)
    means /= np.diff(np.append(starts, len(worth)))[:, None]
    return means


def kept_worth(worth: Array, rows: int, share: float) -> float:
    """What stays of the matrix `worth` [n, columns] in groups of `rows`, the last of which may be smaller.

    The share `share` of the blocks goes, those of least mean; the first of equals.
    """
    starts = np.arange(0, len(worth), rows)
    sizes = np.diff(np.append(starts, len(worth)))
    means = block_means(worth, starts)
    least = _cut_of(means, share)
    lost = min(round(share * means.size), means.size - 1) - np.count_nonzero(means < least)
    equal = np.flatnonzero(means == least)[lost:] // means.shape[1]
    above = (means > least) * means
    return float(above.sum(axis=1, dtype=np.float64) @ sizes) + least * float(sizes[equal].sum())


def best_order(layers: Sequence[Rows], starts: Positions) -> Positions:
    """The order of channels that keeps most in all `layers` together: int64 [channels].

    Place i gets the channel `order[i]`; groups of places begin at `starts`. The same on every machine but for
    ties that rounding decides.
    """
    search = _Search(layers, starts)
    given = np.arange(len(layers[0].worth))
    seeds = [search.alike()]
    if search.elements * len(given) <= _SMALL:
        seeds.append(given)
    found = [search.improve(seed) for seed in seeds]
    return max((given, *found), key=search.kept)


class _Search:
    """Rows of all layers side by side: one matrix, whose columns have thresholds of their own."""

    def __init__(self, layers: Sequence[Rows], starts: Positions) -> None:
        self._layers, self._starts = layers, starts
        self._worth = np.concatenate([layer.worth for layer in layers], axis=1)
        self._ends = np.cumsum([layer.worth.shape[1] for layer in layers])
        self._sizes = np.diff(np.append(starts, len(self._worth))).astype(np.float32)
        self._group = np.repeat(np.arange(len(starts)), self._sizes.astype(int))
        self.elements = self._worth.size

    def kept(self, order: Positions) -> float:
        """What stays in all layers: what is above the threshold, and the threshold for each block."""
        total = 0.0
        for (means, cut), layer in zip(self._means_and_cuts(order), self._layers, strict=True):
            total += float(np.maximum(means - cut, 0).sum(axis=1, dtype=np.float64) @ self._sizes)
            blocks = means.size + layer.rest.size
            others = float(np.maximum(layer.rest - cut, 0).sum(dtype=np.float64))
            total += float(self._sizes[0]) * (others + cut * (blocks - round(layer.share * blocks)))
        return total

    def _means_and_cuts(self, order: Positions) -> list[tuple[Array, float]]:
        means = np.split(block_means(self._worth[order], self._starts), self._ends[:-1], axis=1)
        return [(m, layer.threshold(m)) for m, layer in zip(means, self._layers, strict=True)]

    def _cuts(self, order: Positions) -> Array:
        """The threshold of each column."""
        cuts = [np.full(m.shape[1], cut, np.float32) for m, cut in self._means_and_cuts(order)]
        return np.concatenate(cuts)

    def alike(self) -> Positions:
        """Groups of rows that are alike: the row that varies most, then those most like all before."""
        # a weight above the threshold of a whole block keeps it alone, however large it is
        most = self._cuts(np.arange(len(self._worth))) * self._sizes.max()
        capped = np.minimum(self._worth, most)
        capped -= capped.mean(axis=0)
        likeness = capped @ capped.T
        vary = np.diag(likeness).copy()
        order = list[int]()
        for size in self._sizes.astype(int).tolist():
            near = vary
            for _ in range(size):
                row = int(near.argmax())
                order.append(row)
                near = likeness[row].copy() if near is vary else near + likeness[row]
                vary[row] = -np.inf
                near[vary == -np.inf] = -np.inf
        return np.asarray(order)

    def improve(self, order: Positions) -> Positions:
        """Change places of rows of different groups while that keeps more."""
        cost = self.elements * (len(self._starts) + 16 * _PARTNERS)
        for _ in range(int(np.clip(_WORK / cost, _LEAST_ROUNDS, _MOST_ROUNDS))):
            swapped = self._round(order)
            if swapped is None:
                break
            order = swapped
        return order

    def _round(self, order: Positions) -> Positions | None:
        """`order` after the best swaps, at most one for each group; None where there is none."""
        cuts = self._cuts(order)
        worth = self._worth[order]
        sums = np.add.reduceat(worth, self._starts, axis=0)
        least = self._sizes[:, None] * cuts
        first, second = self._pairs(worth, sums > least)
        gains = self._gains(worth, sums, least, first, second)
        return self._swap(order, first, second, gains, 1e-7 * float(worth.sum()))

    def _pairs(self, worth: Array, kept: npt.NDArray[np.bool_]) -> tuple[Positions, Positions]:
        """For each row the partners that seem best, were the blocks that are kept to stay the same."""
        count, group = len(worth), self._group
        into = (worth @ kept.T.astype(np.float32))[:, group]  # what row i keeps in the group of row j
        stay = np.diag(into)
        gain = into + into.T - stay[:, None] - stay
        gain[group[:, None] == group] = -np.inf
        partners = min(_PARTNERS, count - 1)
        best = np.argpartition(-gain, partners - 1, axis=1)[:, :partners]
        rows = np.repeat(np.arange(count), partners)
        keys = np.unique(np.minimum(rows, best.ravel()) * count + np.maximum(rows, best.ravel()))
        first, second = keys // count, keys % count
        apart = group[first] != group[second]
        return first[apart], second[apart]

    def _gains(self, worth: Array, sums: Array, least: Array, first: Positions, second: Positions) -> Gains:
        """How much the sum of max(block - threshold, 0) grows as rows `first` and `second` change places."""
        over = sums - least
        now = np.maximum(over, 0).sum(axis=1, dtype=np.float64)
        gains = np.empty(len(first))
        step = max(1, _CHUNK // worth.shape[1])
        for start in range(0, len(first), step):
            part = slice(start, start + step)
            one, two = self._group[first[part]], self._group[second[part]]
            change = worth[second[part]] - worth[first[part]]
            after = np.maximum(over[one] + change, 0).sum(axis=1) + np.maximum(over[two] - change, 0).sum(
                axis=1
            )
            gains[part] = after - now[one] - now[two]
        return gains

    def _swap(
        self, order: Positions, first: Positions, second: Positions, gains: Gains, least: float
    ) -> Positions | None:
        order, touched, swapped = order.copy(), set[int](), False
        for pair in np.argsort(-gains, kind="stable").tolist():
            if gains[pair] <= least:
                break
            one, two = int(first[pair]), int(second[pair])
            groups = {int(self._group[one]), int(self._group[two])}
            if not groups & touched:
                touched |= groups
                order[[one, two]] = order[[two, one]]
                swapped = True
        return order if swapped else None
