"""Each family finds the factors of a weight that is made of such, and beats the others on such weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gossamer.passes.low_rank.factors import Factors
from gossamer.passes.low_rank.families import find_family
from gossamer.passes.low_rank.families.monarch import from_blocks, to_blocks
from gossamer.passes.low_rank.problem import Problem

Array = np.ndarray[Any, Any]


def planted(rng: np.random.Generator, outputs: int, rows: int, count: int, depth: int) -> Array:
    """Every output a combination of `count` of `rows` vectors."""
    codes = np.zeros((outputs, rows))
    for row in codes:
        row[rng.choice(rows, count, replace=False)] = rng.standard_normal(count)
    return np.asarray(codes @ rng.standard_normal((rows, depth)), np.float32)


def relative(found: Array, expected: Array) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def error_at(family: str, problem: Problem, nbytes: int) -> float:
    """The least error of a family's sizes of at most so many bytes, as a share of norms."""
    curve = find_family(family).curve(problem)
    assert curve is not None
    return float(np.sqrt(curve.errors[curve.nbytes <= nbytes].min(initial=1.0)))


def test_planted_sparse_codes_are_recovered() -> None:
    weight = planted(np.random.default_rng(2), 256, 16, 4, 48)
    factors: Any = find_family("dense-sparse").factorise(Problem(weight), (16, 4), None)
    assert relative(factors.up @ factors.down, weight) < 0.01
    assert (np.count_nonzero(factors.up, axis=1) == 4).all()
    np.testing.assert_array_equal(factors.stored.decode(), factors.up)


def test_bytes_of_sparse_codes_are_counted_exactly() -> None:
    weight = planted(np.random.default_rng(1), 60, 12, 2, 40)
    family = find_family("dense-sparse")
    curve = family.curve(Problem(weight))
    assert curve is not None
    for size, nbytes in list(zip(curve.sizes, curve.nbytes, strict=True))[::4]:
        assert family.factorise(Problem(weight), size, None).nbytes == nbytes


def test_sparse_codes_beat_svd_on_a_union_of_subspaces_and_are_alike_on_noise() -> None:
    rng = np.random.default_rng(2)
    union = [rng.standard_normal((8, 3)) @ rng.standard_normal((3, 56)) for _ in range(10)]
    problem = Problem(np.concatenate(union).astype(np.float32))
    half = problem.weight.nbytes // 2
    assert error_at("dense-sparse", problem, half) < 0.5 * error_at("svd", problem, half)
    noise = Problem(rng.standard_normal((80, 56)).astype(np.float32))
    assert error_at("dense-sparse", noise, half) == pytest.approx(error_at("svd", noise, half), rel=0.35)


@pytest.mark.parametrize("sizes", [(6, 6, 6, 6), (4, 8, 5, 9), (3, 2, 7, 4)])
def test_a_monarch_matrix_is_recovered(sizes: tuple[int, int, int, int]) -> None:
    k, q, s, p = sizes
    rng = np.random.default_rng(3)
    matrix = from_blocks(rng.standard_normal((q, k, s, 1)) * rng.standard_normal((q, k, 1, p)))
    problem = Problem(matrix.astype(np.float32))
    factors: Any = find_family("monarch").factorise(problem, (k, q, 1), None)
    first, second = factors.first.reshape(k, p, q), factors.second.reshape(q, k, s)
    found = from_blocks(np.einsum("ipj,jis->jisp", first.astype(np.float64), second))
    assert relative(found, matrix) < 1e-6
    blocks = to_blocks(matrix, k, q)
    tails = np.linalg.svd(blocks, compute_uv=False)[..., 1:]
    assert np.linalg.norm(tails) < 1e-9 * np.linalg.norm(matrix)
    np.testing.assert_array_equal(from_blocks(blocks), matrix)


def test_the_error_of_blocks_is_that_of_their_discarded_singular_values() -> None:
    weight = np.random.default_rng(4).standard_normal((48, 32)).astype(np.float32)
    curve = find_family("monarch").curve(Problem(weight))
    assert curve is not None
    for size, error in zip(curve.sizes, curve.errors, strict=True):
        k, q, rank = size
        values = np.linalg.svd(to_blocks(weight.astype(np.float64), k, q), compute_uv=False)
        expected = np.sum(values[..., rank:] ** 2) / np.sum(values**2)
        assert error == pytest.approx(expected, abs=1e-12)
        factors: Any = find_family("monarch").factorise(Problem(weight), size, None)
        first = factors.first.reshape(k, -1, q, rank)
        second = factors.second.reshape(q, k, rank, -1)
        product = from_blocks(np.einsum("ipjb,jibs->jisp", first, second))
        assert relative(product, weight) ** 2 == pytest.approx(expected, rel=1e-4, abs=1e-9)
        assert first.size + second.size == rank * (k * 48 + q * 32)


def test_sizes_without_divisors_have_no_blocks() -> None:
    assert find_family("monarch").curve(Problem(np.ones((37, 41), np.float32))) is None


@pytest.mark.parametrize("family", ["separable", "monarch", "dense-sparse", "svd"])
def test_errors_on_data_are_those_of_the_factors(family: str) -> None:
    rng = np.random.default_rng(5)
    shape = (24, 12, 3, 3) if family == "separable" else (48, 40)
    depth = int(np.prod(shape[1:]))
    rows = (rng.standard_normal((300, depth)) @ rng.standard_normal((depth, depth))).astype(np.float32) + 1
    weight = rng.standard_normal(shape).astype(np.float32)
    problem = Problem(weight, rows, centred=True, damping=1e-6)
    curve = find_family(family).curve(problem)
    assert curve is not None
    index = len(curve.sizes) // 2
    factors: Any = find_family(family).factorise(problem, curve.sizes[index], curve.basis)
    product = _product(factors, curve.sizes[index])
    centred = rows - rows.mean(axis=0)
    matrix, found = weight.reshape(shape[0], -1), np.asarray(product).reshape(shape[0], -1)
    lost = np.linalg.norm(centred @ (matrix - found).T) / np.linalg.norm(centred @ matrix.T)
    assert lost**2 == pytest.approx(curve.errors[index], rel=0.25, abs=1e-4)
    np.testing.assert_allclose(factors.shift, (matrix - found) @ rows.mean(axis=0), rtol=1e-2, atol=1e-2)


def _product(factors: Any, size: tuple[int, ...]) -> Array:
    if isinstance(factors, Factors):
        if factors.up.ndim == 2:
            return np.asarray(factors.up @ factors.down)
        return np.asarray(np.einsum("orw,rih->oihw", factors.up[:, :, 0], factors.down[..., 0]))
    k, q, rank = size
    first = factors.first.reshape(k, -1, q, rank)
    second = factors.second.reshape(q, k, rank, -1)
    return from_blocks(np.einsum("ipjb,jibs->jisp", first, second))
