"""k-means of numbers on a line: exact, by dynamic programming.

Clusters of sorted points are intervals, so the best k of the first i points follow from the best k - 1 of the
first j (Wang and Song 2011, doi:10.32614/RJ-2011-015). The best j grows with i, so each row of the table is
filled by halving: O(k n log n). Sums are running sums in float64, in the points' order, which are the same on
every machine.

Up to EXACT_POINTS distinct values are clustered exactly. More are first put into FINE_POINTS bins of equal
width, each of which is a point at its members' mean; these are joined to at most EXACT_POINTS for the exact
search, and Lloyd's iterations (1982, doi:10.1109/TIT.1982.1056489) on the fine bins end it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["EXACT_POINTS", "Points", "cluster_points", "collect", "squared_error"]

Floats = npt.NDArray[np.float64]
EXACT_POINTS = 2048
"""Distinct values up to which clusters are exact."""
FINE_POINTS = 1 << 16
_LLOYD_ROUNDS = 50
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Points:
    """Sorted points with their total weights, float64 [n] each."""

    values: Floats
    weights: Floats


def collect(values: npt.NDArray[np.float32], weights: npt.NDArray[np.float32] | None) -> Points:
    """Distinct values (or bins of them) with the sums of their weights, each 1 without `weights`."""
    flat = values.reshape(-1)
    mass = np.ones_like(flat) if weights is None else weights.reshape(-1)
    if flat.size <= FINE_POINTS:
        distinct, inverse = np.unique(flat, return_inverse=True)
        total = _sums(inverse, mass.astype(np.float64), len(distinct))
        return _positive(distinct.astype(np.float64), total)
    low, high = float(flat.min()), float(flat.max())
    step = max((high - low) / FINE_POINTS, np.finfo(np.float64).tiny)
    total, moment = np.zeros(FINE_POINTS), np.zeros(FINE_POINTS)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK].astype(np.float64)
        share = mass[start : start + _CHUNK].astype(np.float64)
        place = np.minimum((part - low) / step, FINE_POINTS - 1).astype(np.int64)
        total += _sums(place, share, FINE_POINTS)
        moment += _sums(place, share * part, FINE_POINTS)
    used = total > 0
    return _positive(moment[used] / total[used], total[used])


def cluster_points(points: Points, count: int) -> Floats:
    """At most `count` centroids, sorted, of least weighted squared error."""
    if len(points.values) <= count:
        return points.values
    coarse = points if len(points.values) <= EXACT_POINTS else _joined(points)
    centroids = _exact(coarse, count)
    return centroids if coarse is points else _lloyd(points, centroids)


def squared_error(points: Points, centroids: Floats) -> float:
    """The weighted sum of squared distances to the nearest centroid."""
    edges = (centroids[1:] + centroids[:-1]) / 2
    gaps = points.values - centroids[np.searchsorted(edges, points.values)]
    return float(np.cumsum(points.weights * gaps * gaps)[-1])


def _sums(place: npt.NDArray[np.int64], shares: Floats, count: int) -> Floats:
    """The sums of `shares` by place, each added up in order."""
    sums: npt.NDArray[Any] = np.bincount(place, shares, count)  # of float64, which its stubs do not know
    return sums


def _positive(values: Floats, weights: Floats) -> Points:
    """Points whose weights are positive: one without weight must be near something too."""
    largest = float(weights.max(initial=0))
    if largest <= 0:
        return Points(values, np.ones_like(weights))
    return Points(values, np.maximum(weights, largest * 1e-12))


def _joined(points: Points) -> Points:
    """At most EXACT_POINTS points: cut where the cube root of density has risen enough.

    That density of centroids is optimal for many clusters (Panter and Dite 1951), so it also bounds what is
    lost by cutting between points of one cluster.
    """
    widths = np.gradient(points.values)
    mass = np.cumsum(np.cbrt(points.weights * widths * widths))
    place = np.minimum(mass / mass[-1] * EXACT_POINTS, EXACT_POINTS - 1).astype(np.int64)
    total = _sums(place, points.weights, EXACT_POINTS)
    moment = _sums(place, points.weights * points.values, EXACT_POINTS)
    used = total > 0
    return Points(moment[used] / total[used], total[used])


def _lloyd(points: Points, centroids: Floats) -> Floats:
    """Centroids become the means of what is nearest to them, until nothing moves."""
    mass = np.concatenate([[0.0], np.cumsum(points.weights)])
    moment = np.concatenate([[0.0], np.cumsum(points.weights * points.values)])
    for _ in range(_LLOYD_ROUNDS):
        inner = np.searchsorted(points.values, (centroids[1:] + centroids[:-1]) / 2, side="right")
        bounds = np.concatenate([[0], inner, [len(points.values)]])
        share, sums = np.diff(mass[bounds]), np.diff(moment[bounds])
        moved = np.where(share > 0, sums / np.where(share > 0, share, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = np.sort(moved)
    return centroids


class _Costs:
    """Squared errors of intervals of points, by running sums."""

    def __init__(self, points: Points) -> None:
        middle = np.cumsum(points.weights * points.values)[-1] / np.cumsum(points.weights)[-1]
        values = points.values - middle  # small numbers lose less in differences of sums
        self.middle = middle
        self.mass = np.concatenate([[0.0], np.cumsum(points.weights)])
        self.moment = np.concatenate([[0.0], np.cumsum(points.weights * values)])
        self.square = np.concatenate([[0.0], np.cumsum(points.weights * values * values)])

    def error(self, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Floats:
        """Of the points from `start` to before `end`, which are not empty."""
        moment = self.moment[end] - self.moment[start]
        mass = self.mass[end] - self.mass[start]
        error: Floats = self.square[end] - self.square[start] - moment * moment / mass
        return error

    def mean(self, bounds: npt.NDArray[np.int64]) -> Floats:
        """Means of the intervals between `bounds`."""
        means: Floats = np.diff(self.moment[bounds]) / np.diff(self.mass[bounds]) + self.middle
        return means


def _exact(points: Points, count: int) -> Floats:
    """The centroids of the best `count` intervals."""
    n = len(points.values)
    costs = _Costs(points)
    ends = np.arange(1, n + 1)
    best = np.concatenate([[np.inf], costs.error(np.zeros(n, np.int64), ends)])
    starts = np.zeros((count, n + 1), np.int32)
    for clusters in range(1, count):
        best, starts[clusters] = _row(costs, best, starts[clusters - 1], clusters)
    bounds = [n]
    for clusters in range(count - 1, -1, -1):
        bounds.append(int(starts[clusters, bounds[-1]]))
    return costs.mean(np.array(bounds[::-1]))


def _row(
    costs: _Costs, before: Floats, least_starts: npt.NDArray[np.int32], clusters: int
) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Least errors of the first i points in `clusters` + 1 intervals, and where the last one starts.

    All ends of one level of halving are looked at together: their candidates follow each other in one array.
    The last of more intervals starts no earlier than that of fewer, which are `least_starts`.
    """
    n = len(before) - 1
    best = np.full(n + 1, np.inf)
    start = np.zeros(n + 1, np.int32)
    known = np.array([clusters, n + 1])  # ends whose starts are known bound those between them
    bound = np.array([clusters, n])
    while True:
        middles = (known[:-1] + known[1:]) // 2
        open_ = middles > known[:-1]
        if not open_.any():
            return best, start
        ends = middles[open_]
        low = np.maximum(np.maximum(bound[:-1][open_], least_starts[ends]), clusters)
        high = np.maximum(np.minimum(bound[1:][open_], ends - 1), low)
        sizes = high - low + 1
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        candidate = np.arange(sizes.sum()) - np.repeat(first - low, sizes)
        errors = before[candidate] + costs.error(candidate, np.repeat(ends, sizes))
        least = np.minimum.reduceat(errors, first)
        hits = np.flatnonzero(errors == np.repeat(least, sizes))
        chosen = candidate[hits[np.searchsorted(hits, first)]]
        best[ends], start[ends] = least, chosen
        places = np.flatnonzero(open_) + 1
        known, bound = np.insert(known, places, ends), np.insert(bound, places, chosen)
