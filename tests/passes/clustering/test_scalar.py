"""Numbers on a line are clustered with the least error that there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.passes.clustering.scalar import Points, cluster_points, collect, squared_error


def least_error(points: Points, count: int) -> float:
    """The same by trying every interval."""
    n, values, weights = len(points.values), points.values, points.weights
    best = np.full((count + 1, n + 1), np.inf)
    best[0, 0] = 0
    for clusters in range(1, count + 1):
        for end in range(1, n + 1):
            for start in range(end):
                part, mass = values[start:end], weights[start:end]
                gaps = part - (part * mass).sum() / mass.sum()
                error = best[clusters - 1, start] + (mass * gaps * gaps).sum()
                best[clusters, end] = min(best[clusters, end], error)
    return float(best[count, n])


@given(st.integers(1, 24), st.integers(1, 9), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_clusters_of_few_points_are_optimal(n: int, count: int, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(n).astype(np.float32)
    weights = rng.random(n).astype(np.float32) + np.float32(0.01) if weighted else None
    points = collect(values, weights)
    centroids = cluster_points(points, count)
    assert len(centroids) <= count
    assert (np.diff(centroids) > 0).all()
    expected = least_error(points, min(count, len(points.values)))
    assert squared_error(points, centroids) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 64])
@pytest.mark.parametrize("size", [2048, 5000, 100_000])
def test_no_iteration_from_quantiles_does_better(count: int, size: int) -> None:
    rng = np.random.default_rng(size + count)
    values = rng.standard_t(5, size).astype(np.float32)
    points = collect(values, None)
    centroids = np.quantile(points.values, (np.arange(count) + 0.5) / count)
    for _ in range(100):
        near = np.abs(points.values[:, None] - centroids).argmin(axis=1) if size < 9999 else None
        if near is None:
            near = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, points.values)
        moment = np.bincount(near, points.weights * points.values, count)
        total = np.bincount(near, points.weights, count)
        centroids = np.where(total > 0, moment / np.maximum(total, 1e-30), centroids)
    found = squared_error(points, cluster_points(points, count))
    assert found <= squared_error(points, np.sort(centroids)) * (1 + 1e-9)


def test_as_many_clusters_as_values_have_no_error() -> None:
    values = np.repeat(np.array([-3, 0.5, 7, 8], np.float32), 5)
    np.testing.assert_array_equal(cluster_points(collect(values, None), 4), [-3, 0.5, 7, 8])


def test_weights_draw_centroids() -> None:
    values = np.array([0, 1, 10, 11], np.float32)
    points = collect(values, np.array([1, 3, 1, 1], np.float32))
    np.testing.assert_allclose(cluster_points(points, 2), [0.75, 10.5])


def test_points_without_any_weight_are_clustered_like_equal_ones() -> None:
    values = np.array([0, 1, 10, 11], np.float32)
    points = collect(values, np.zeros(4, np.float32))
    np.testing.assert_allclose(cluster_points(points, 2), [0.5, 10.5])


def test_equal_values_are_one_point() -> None:
    points = collect(np.full(200_000, 3, np.float32), None)
    np.testing.assert_allclose(cluster_points(points, 16), [3], rtol=1e-12)
