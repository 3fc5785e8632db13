"""Vectors are clustered the same on every machine, and as well as their data allows."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.passes.clustering.vectors import cluster_vectors, nearest_vectors


@pytest.mark.parametrize("vector", [2, 4, 8])
def test_well_separated_clusters_are_found(vector: int) -> None:
    rng = np.random.default_rng(vector)
    centers = np.sign(rng.standard_normal((8, vector))) * 10 + rng.standard_normal((8, vector)) * 3
    members = rng.integers(0, 8, 2000)
    points = centers[members] + 0.01 * rng.standard_normal((2000, vector))
    found = cluster_vectors(points, np.ones(2000), 16, seed=1)
    near = nearest_vectors(points, found)
    assert np.abs(points - found[near]).max() < 0.1


def test_the_seed_decides_and_nothing_else() -> None:
    points = np.random.default_rng(0).standard_normal((3000, 4))
    weights = np.ones(3000)
    first = cluster_vectors(points, weights, 32, seed=7)
    assert first.tobytes() == cluster_vectors(points.copy(), weights, 32, seed=7).tobytes()
    assert first.tobytes() != cluster_vectors(points, weights, 32, seed=8).tobytes()


def test_distances_are_whole_numbers_so_that_no_order_of_sums_matters() -> None:
    """The bound that the module's docstring states: 8 products of 21 bits stay exact in float64."""
    rng = np.random.default_rng(0)
    left, right = rng.integers(-(2**20), 2**20, (2, 500, 8)).astype(np.float64)
    exact = np.array(
        [sum(int(a) * int(b) for a, b in zip(x, y, strict=True)) for x, y in zip(left, right, strict=True)]
    )
    assert ((left * right).sum(axis=1) == exact).all()
    assert (np.einsum("ni,ni->n", left[:, ::-1], right[:, ::-1]) == exact).all()


def test_weights_draw_centroids() -> None:
    points = np.array([[0, 0], [1, 1], [10, 10]], np.float64)
    found = cluster_vectors(points, np.array([1, 3, 1.0]), 2, seed=0)
    np.testing.assert_allclose(sorted(found[:, 0]), [0.75, 10], atol=1e-4)


def test_fewer_points_than_centroids() -> None:
    points = np.array([[0, 1], [2, 3]], np.float64)
    found = cluster_vectors(points, np.ones(2), 16, seed=0)
    assert found.shape == (16, 2)
    np.testing.assert_allclose(found[nearest_vectors(points, found)], points, atol=1e-5)
