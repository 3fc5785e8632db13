"""Which size each layer gets, when all of them together may cost so much.

A layer is dense, or has one of the sizes of its curves. On the lower convex hull of (cost, error) a step to
the next smaller size has a slope: error for what it saves. Taking the steps of all layers in the order of
their slopes gives, at every total it passes, the least sum of errors (Fox 1966, marginal allocation); only
the last step is cut short, and what it leaves is spent where it gains most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .curve import Curve, Sizes

__all__ = ["Pick", "Sized", "allocate", "by_error", "by_rank", "by_threshold"]


@dataclass(frozen=True)
class Pick:
    """The size at `index` of a curve."""

    curve: Curve
    index: int
    cost: int

    @property
    def family(self) -> str:
        """The kind of factors."""
        return self.curve.family

    @property
    def size(self) -> tuple[int, ...]:
        """What the family knows it by."""
        return self.curve.sizes[self.index]

    @property
    def error(self) -> float:
        """The share of the outputs' energy that is lost."""
        return float(self.curve.errors[self.index])

    @property
    def nbytes(self) -> int:
        """Bytes of the factors."""
        return int(self.curve.nbytes[self.index])


@dataclass(frozen=True)
class Sized:
    """A layer's curves, and what each size and the dense weight cost, in bytes or multiply-adds."""

    curves: Sequence[Curve]
    costs: Sequence[Sizes]
    dense: int

    def points(self) -> tuple[npt.NDArray[np.float64], list[Pick | None]]:
        """(cost, error) of the dense weight and of every size, and the picks they stand for."""
        picks: list[Pick | None] = [None]
        for curve, costs in zip(self.curves, self.costs, strict=True):
            picks += [Pick(curve, i, int(cost)) for i, cost in enumerate(costs)]
        costs = np.concatenate([[self.dense], *self.costs]).astype(np.float64)
        errors = np.concatenate([[0.0], *(curve.errors for curve in self.curves)])
        return np.stack([costs, errors], axis=1), picks


def allocate(layers: Sequence[Sized], target: int) -> list[Pick | None]:
    """A pick for each layer, None for dense, whose costs sum to no more than `target` where that can be."""
    tables = [layer.points() for layer in layers]
    hulls = [_hull(points) for points, _ in tables]
    steps = [
        (_slope(points, a, b), number, place)
        for number, ((points, _), hull) in enumerate(zip(tables, hulls, strict=True))
        for place, (a, b) in enumerate(pairwise(hull))
    ]
    chosen = [hull[0] for hull in hulls]
    total = sum(points[at, 0] for (points, _), at in zip(tables, chosen, strict=True))
    for _, number, place in sorted(steps):
        if total <= target:
            break
        points, at = tables[number][0], hulls[number][place + 1]
        if total - points[chosen[number], 0] + points[at, 0] < target:
            at = _last(points, total - points[chosen[number], 0], target, at)
        total += points[at, 0] - points[chosen[number], 0]
        chosen[number] = at
    _fill([points for points, _ in tables], chosen, target - total)
    return [picks[at] for (_, picks), at in zip(tables, chosen, strict=True)]


def _fill(tables: Sequence[npt.NDArray[np.float64]], chosen: list[int], left: float) -> None:
    """Spend what the steps left of the target where it gains most; sizes off the hull count here too."""
    while left >= 0:
        gains = list[tuple[float, int, int]]()
        for number, (points, now) in enumerate(zip(tables, chosen, strict=True)):
            best = _last(points, -points[now, 0], left, now)
            gains.append((points[now, 1] - points[best, 1], -number, best))
        gain, number, best = max(gains, default=(0.0, 0, 0))
        if gain <= 0:
            return
        left -= tables[-number][best, 0] - tables[-number][chosen[-number], 0]
        chosen[-number] = best


def _last(points: npt.NDArray[np.float64], others: float, target: float, least: int) -> int:
    """Of all sizes with which the total is no more than `target`, the one that loses least."""
    fits = np.flatnonzero(others + points[:, 0] <= target)
    best = fits[np.lexsort((points[fits, 0], points[fits, 1]))]
    return int(best[0]) if len(best) else least


def _hull(points: npt.NDArray[np.float64]) -> list[int]:
    """Indices on the lower convex hull of (saving, error), from the cheapest size that loses nothing."""
    free = points[points[:, 1] <= 0, 0].min()
    hull = [int(np.flatnonzero((points[:, 1] <= 0) & (points[:, 0] == free))[0])]
    passed = free
    for at in np.lexsort((points[:, 1], -points[:, 0])).tolist():
        if points[at, 0] >= passed:
            continue  # it costs what one before it does, which loses less
        passed = points[at, 0]
        while len(hull) > 1 and _slope(points, hull[-1], at) <= _slope(points, hull[-2], hull[-1]):
            hull.pop()
        hull.append(at)
    return hull


def _slope(points: npt.NDArray[np.float64], dear: int, cheap: int) -> float:
    return float((points[cheap, 1] - points[dear, 1]) / (points[dear, 0] - points[cheap, 0]))


def by_rank(layer: Sized, rank: int) -> Pick | None:
    """The size whose rank is `rank`; None where that is no smaller than the dense weight."""
    found = [pick for pick in layer.points()[1] if pick is not None and pick.size == (rank,)]
    return min(found, key=lambda pick: pick.error, default=None)


def by_error(layer: Sized, bound: float) -> Pick | None:
    """The cheapest size that loses no more than `bound`, a share of the outputs' norm."""
    points, picks = layer.points()
    fits = np.flatnonzero(points[:, 1] <= bound**2)
    best = fits[np.lexsort((points[fits, 1], points[fits, 0]))[0]]
    return picks[int(best)]


def by_threshold(layer: Sized, threshold: float) -> Pick | None:
    """As many directions as have a singular value of at least `threshold`, all of them scaled to 0..1.

    None where that many are no smaller than the dense weight (WeLore: Jaiswal et al. 2024, arXiv:2407.11239,
    with the exact break-even for its one half).
    """
    for curve, costs in zip(layer.curves, layer.costs, strict=True):
        if curve.spectrum is None:
            continue
        spread = max(float(np.ptp(curve.spectrum)), 1e-300)
        rank = max(1, int(np.count_nonzero((curve.spectrum - curve.spectrum.min()) / spread >= threshold)))
        return by_rank(Sized([curve], [costs], layer.dense), rank)
    return None
