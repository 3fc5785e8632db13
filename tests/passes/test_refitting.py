"""What is left of a weight makes up for what went: compared with least squares and brute force."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.passes.low_rank.problem import Problem
from gossamer.passes.pruning_scores import importances
from gossamer.passes.pruning_weights import Request, prune_weight
from gossamer.passes.refitting import Refitter
from gossamer.passes.sparsity_pattern import parse_pattern

Array = npt.NDArray[np.float64]


def positive(depth: int, rng: np.random.Generator) -> Array:
    rows = rng.standard_normal((2 * depth, depth)) @ rng.standard_normal((depth, depth))
    return np.asarray(rows.T @ rows / len(rows) + 0.1 * np.eye(depth))


def loss(off: Array, moments: Array) -> float:
    return float(np.sum((off @ moments) * off))


@given(st.integers(1, 9), st.integers(1, 12), st.floats(0, 1), st.integers(0, 99))
def test_a_refit_is_the_least_squares_solution_on_the_kept_entries(
    outputs: int, depth: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    target, moments = rng.standard_normal((outputs, depth)), positive(depth, rng)
    keep = (rng.random((-(-outputs // 4), depth)) >= share).repeat(4, axis=0)[:outputs]
    got = Refitter(target, moments).fit(keep)
    root = np.linalg.cholesky(moments).T  # (v - w) C (v - w)^T = |root (v - w)|^2
    for row, alive, fitted in zip(target, keep, got, strict=True):
        expected = np.zeros(depth)
        expected[alive] = np.linalg.lstsq(root[:, alive], root @ row, rcond=None)[0]
        np.testing.assert_allclose(fitted, expected, atol=1e-6)
        assert not fitted[~alive].any()


def test_nothing_lost_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    target = rng.standard_normal((6, 5))
    got = Refitter(target, positive(5, rng)).fit(np.ones((6, 5), bool))
    np.testing.assert_allclose(got, target, atol=1e-9)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_second_order_score_is_the_error_that_the_best_refit_leaves(columns: int) -> None:
    rng = np.random.default_rng(columns)
    weight, moments = rng.standard_normal((4, 6)), positive(6, rng)
    pattern = parse_pattern(f"2x{columns}")
    scores = pattern.pooled(importances(weight, "second-order", moments, columns))
    for down, across in np.ndindex(scores.shape):
        keep = np.ones((4, 6), bool)
        rows, gone = slice(2 * down, 2 * down + 2), slice(columns * across, columns * (across + 1))
        keep[rows, gone] = False
        left = loss(Refitter(weight, moments).fit(keep) - weight, moments)
        assert scores[down, across] * 2 * columns == pytest.approx(left, rel=1e-9)


def test_the_spread_of_what_stays_is_the_diagonal_of_its_inverse_moments() -> None:
    rng = np.random.default_rng(6)
    moments = positive(8, rng)
    for count in (2, 4, 7):
        keep = np.isin(np.arange(8), rng.permutation(8)[:count])[None]
        spread = Refitter(np.ones((1, 8)), moments).spread(keep)
        inverse = np.linalg.inv(moments[np.ix_(keep[0], keep[0])])
        np.testing.assert_allclose(spread[keep], np.diag(inverse), rtol=1e-9)


def test_a_relative_score_does_not_mind_the_scale_of_an_output() -> None:
    weight = np.random.default_rng(7).standard_normal((4, 6))
    scores = importances(weight, "relative", None)
    np.testing.assert_allclose(scores.mean(axis=1), 1)
    np.testing.assert_allclose(scores, importances(weight * [[1], [8], [0.1], [5]], "relative", None))
    assert not importances(np.zeros((2, 3)), "relative", None).any()


def test_an_activation_score_is_the_error_of_outputs_where_inputs_are_uncorrelated() -> None:
    rng = np.random.default_rng(0)
    weight, moments = rng.standard_normal((4, 6)), np.diag(rng.random(6) + 0.1)
    scores = importances(weight, "activation", moments)
    for entry in np.ndindex(weight.shape):
        off = np.zeros_like(weight)
        off[entry] = weight[entry]
        assert scores[entry] == pytest.approx(loss(off, moments), rel=1e-12)


def test_the_second_order_choice_of_one_block_is_the_best_of_all() -> None:
    rng = np.random.default_rng(5)
    weight, moments = rng.standard_normal((2, 7)), positive(7, rng)
    request = parse_pattern("2x1").keep(importances(weight, "second-order", moments), 0, 1)
    best = min(
        combinations(range(7), 6),
        key=lambda kept: loss(
            Refitter(weight, moments).fit(np.isin(np.arange(7), kept)[None].repeat(2, axis=0)) - weight,
            moments,
        ),
    )
    np.testing.assert_array_equal(np.flatnonzero(request[0]), best)


def outputs(problem: Problem, weight: Any, shift: Any) -> Array:
    assert problem.rows is not None
    return np.asarray(problem.rows.astype(np.float64) @ weight.reshape(len(weight), -1).T + shift)


@pytest.mark.parametrize("score", ["magnitude", "relative", "activation", "second-order"])
@pytest.mark.parametrize("pattern", ["element", "4x1", "2x2", "2:4"])
def test_a_refit_lowers_the_error_of_outputs_and_keeps_zeros(pattern: str, score: Any) -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((10, 4, 2, 1)).astype(np.float32)
    rows = (rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8)) + 1).astype(np.float32)
    originals = rows + rng.standard_normal(rows.shape).astype(np.float32) * np.float32(0.2)
    problem = Problem(weight, rows, originals, centred=True, damping=1e-6)
    wanted = originals.astype(np.float64) @ weight.reshape(10, -1).T
    errors = []
    for refit in (False, True):
        done = prune_weight(problem, Request(parse_pattern(pattern), 0.5, score, refit, rounds=3))
        assert abs(np.mean(done.weight == 0) - 0.5) < 0.06  # tails are smaller blocks
        assert done.error is not None
        shift = done.shift if refit else np.zeros(10)
        errors.append(float(np.square(outputs(problem, done.weight, shift) - wanted).sum()))
        centred = np.square(wanted - wanted.mean(axis=0)).sum()
        if refit:  # what is reported is what a run gives, up to what no weight can give from these rows
            off = outputs(problem, done.weight, shift) - outputs(problem, problem.matrix, 0)
            off -= off.mean(axis=0)
            assert np.square(off).sum() / centred == pytest.approx(done.error, rel=0.05)
            assert done.error < (done.unfitted or 0)
    assert errors[1] < errors[0]


def test_a_bias_takes_the_mean_of_the_error() -> None:
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((8, 6)).astype(np.float32)
    rows = (rng.standard_normal((100, 6)) + 3).astype(np.float32)
    problem = Problem(weight, rows, rows, centred=True)
    done = prune_weight(problem, Request(parse_pattern("4x1"), 0.5, "magnitude", True))
    off = outputs(problem, done.weight, done.shift) - outputs(problem, weight, 0)
    np.testing.assert_allclose(off.mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30])
def test_rows_that_say_nothing_leave_what_stays_as_it_was(value: float) -> None:
    weight = np.random.default_rng(8).standard_normal((8, 6)).astype(np.float32)
    request = Request(parse_pattern("4x1"), 0.5, "magnitude", True, rounds=3)
    rows = np.zeros((20, 6), np.float32)
    rows[3, 2] = value
    done = prune_weight(Problem(weight, rows, rows, centred=True), request)
    np.testing.assert_allclose(done.weight, prune_weight(Problem(weight), request).weight, rtol=1e-6)
    assert done.shift is None or not done.shift.any()
