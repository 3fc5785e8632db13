"""k-means of vectors: k-means++ from a seed, then Lloyd's iterations.

Points are put on a grid of 2 ** 20 steps to each side of zero, and centroids too, so that products and their
sums over at most 8 coordinates are whole numbers below 2 ** 53: matrix products give the same bits in any
order, on any machine. Means are running sums in the points' order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["cluster_vectors", "nearest_vectors"]

Floats = npt.NDArray[np.float64]
_GRID = 1 << 20
_SAMPLE = 1 << 15
_ROUNDS = 15
_CHUNK = 1 << 14


def cluster_vectors(points: npt.NDArray[np.floating], weights: Floats, count: int, seed: int) -> Floats:
    """`count` centroids [count, d] of `points` [n, d], for least weighted squared error.

    More than 2 ** 15 points are represented by a sample of them, drawn by the seed.
    """
    random = np.random.default_rng(seed)
    if len(points) > _SAMPLE:
        picked = np.sort(random.choice(len(points), _SAMPLE, replace=False))
        points, weights = points[picked], weights[picked]
    step = float(np.abs(points).max(initial=0)) / _GRID or 1.0
    grid = np.round(points.astype(np.float64) / step)
    mass = weights if weights.any() else np.ones(len(points))
    centroids = _seeded(grid, mass, count, random)
    for _ in range(_ROUNDS):
        near, distance = _nearest(grid, centroids)
        moved = _means(grid, mass, near, centroids)
        _fill_empty(moved, near, grid, distance * mass)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids * step


def nearest_vectors(
    points: npt.NDArray[np.floating], table: npt.NDArray[np.floating]
) -> npt.NDArray[np.uint8]:
    """The index of the nearest row of `table` [at most 256, d] for each of `points` [n, d]."""
    step = float(max(np.abs(points).max(initial=0), np.abs(table).max())) / _GRID or 1.0
    near, _ = _nearest(np.round(points / step), np.round(table / step))
    return near.astype(np.uint8)


def _nearest(grid: Floats, centroids: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Indices and squared distances; the lower index where two are as near."""
    near, distance = np.empty(len(grid), np.int64), np.empty(len(grid))
    lengths = (centroids * centroids).sum(axis=1)
    for start in range(0, len(grid), _CHUNK):
        part = grid[start : start + _CHUNK]
        gaps = lengths - 2 * (part @ centroids.T)
        index = gaps.argmin(axis=1)
        near[start : start + _CHUNK] = index
        own = (part * part).sum(axis=1)
        distance[start : start + _CHUNK] = own + np.take_along_axis(gaps, index[:, None], 1)[:, 0]
    return near, distance


def _seeded(grid: Floats, mass: Floats, count: int, random: np.random.Generator) -> Floats:
    """k-means++ (Arthur and Vassilvitskii 2007): each next centroid with the probability of its error."""
    centroids = np.zeros((count, grid.shape[1]))
    share = mass
    distance = np.full(len(grid), np.inf)
    for number in range(count):
        total = np.cumsum(share)
        place = np.searchsorted(total, random.random() * total[-1], side="right")
        centroids[number] = grid[min(int(place), len(grid) - 1)]
        gaps = grid - centroids[number]
        distance = np.minimum(distance, (gaps * gaps).sum(axis=1))
        share = distance * mass
        if not share.any():
            centroids[number:] = centroids[number]
            break
    return centroids


def _means(grid: Floats, mass: Floats, near: npt.NDArray[np.int64], centroids: Floats) -> Floats:
    count = len(centroids)
    total = np.bincount(near, mass, count)
    moved = np.empty_like(centroids)
    for axis in range(grid.shape[1]):
        moment = np.bincount(near, mass * grid[:, axis], count)
        moved[:, axis] = np.where(total > 0, moment / np.where(total > 0, total, 1), centroids[:, axis])
    return np.round(moved)


def _fill_empty(centroids: Floats, near: npt.NDArray[np.int64], grid: Floats, errors: Floats) -> None:
    """A centroid that nothing is near goes to one of the points with the largest errors."""
    empty = np.flatnonzero(np.bincount(near, minlength=len(centroids)) == 0)
    worst = np.argsort(-errors, kind="stable")[: len(empty)]
    worst = worst[errors[worst] > 0]
    centroids[empty[: len(worst)]] = grid[worst]
