"""The search keeps never less than the given order, and finds groups that were planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.passes.channels.arranging import Target, kept_share, order_channels
from gossamer.passes.channels.grouping import kept_worth
from gossamer.passes.sparsity_pattern import parse_pattern

Array = np.ndarray[Any, np.dtype[Any]]


def planted(random: np.random.Generator, rows: int, groups: int, columns: int) -> Array:
    """Weights whose groups of neighbouring rows are large in the same columns."""
    large = (random.random((groups, columns)) < 0.5).repeat(rows, axis=0)
    normal: Array = random.standard_normal((rows * groups, columns))
    return (normal * np.where(large, 1, 0.3)).astype(np.float32)


@pytest.mark.parametrize(
    ("rows", "groups", "columns"), [(4, 32, 128), (8, 16, 128), (16, 8, 144), (4, 16, 576)]
)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("score", ["l1", "l2"])
def test_planted_groups_are_found(rows: int, groups: int, columns: int, share: float, score: Any) -> None:
    random = np.random.default_rng(rows)
    weights = planted(random, rows, groups, columns)
    mixed = random.permutation(len(weights))
    target = Target(weights[mixed], rows, share, score)
    order = order_channels([target], [np.arange(len(weights))])
    before, after, total = kept_share(target, order)
    oracle = kept_share(target, np.argsort(mixed))[1]
    assert after >= 0.95 * oracle
    assert after - before >= 0.6 * (oracle - before)
    assert after < total


@given(
    st.integers(1, 30),
    st.integers(1, 12),
    st.sampled_from([2, 3, 4, 8]),
    st.floats(0, 0.95),
    st.sampled_from(["l1", "l2"]),
    st.integers(0, 999),
)
@settings(max_examples=150, deadline=None)
def test_an_order_is_a_permutation_and_loses_nothing(
    outputs: int, columns: int, rows: int, share: float, score: Any, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weights = np.round(random.standard_normal((outputs, columns)) * 4).astype(np.float32)
    target = Target(weights, rows, share, score, relative=False)
    order = order_channels([target], [np.arange(outputs)])
    assert sorted(order.tolist()) == list(range(outputs))
    before, after, _ = kept_share(target, order)
    if outputs % rows == 0:
        assert after >= before * (1 - 1e-5)
    np.testing.assert_array_equal(order, order_channels([target], [np.arange(outputs)]))


@given(
    st.integers(1, 20), st.integers(1, 9), st.sampled_from([2, 4, 8]), st.floats(0, 0.95), st.integers(0, 99)
)
def test_what_is_kept_is_what_pruning_keeps(
    outputs: int, columns: int, rows: int, share: float, seed: int
) -> None:
    worth = np.random.default_rng(seed).random((outputs, columns), np.float32)
    keep = parse_pattern(f"{rows}x1").keep(worth, share)
    assert kept_worth(worth, rows, share) == pytest.approx(float(worth[keep].sum()), rel=1e-5, abs=1e-6)


def test_several_layers_have_one_order_that_suits_all() -> None:
    random = np.random.default_rng(0)
    layers = [planted(random, 4, 16, 64), planted(random, 4, 16, 200)]
    mixed = random.permutation(64)
    targets = [Target(weights[mixed], 4, 0.5, "l2") for weights in layers]
    order = order_channels(targets, [np.arange(64)] * 2)
    for target in targets:
        assert kept_share(target, order)[1] >= 0.95 * kept_share(target, np.argsort(mixed))[1]


def test_channels_stay_out_of_groups_that_are_not_all_theirs() -> None:
    """Channels 2 to 13 of 16 may move: the groups 0-3 and 12-15 hold others too."""
    random = np.random.default_rng(1)
    weights = planted(random, 4, 4, 64)[random.permutation(16)]
    order = order_channels([Target(weights, 4, 0.5, "l2")], [np.arange(2, 14)])
    np.testing.assert_array_equal(order[[0, 1, 10, 11]], [0, 1, 10, 11])
    assert sorted(order.tolist()) == list(range(12))
    assert (order != np.arange(12)).any()


def test_how_channels_are_scaled_does_not_matter() -> None:
    random = np.random.default_rng(2)
    weights = planted(random, 4, 16, 64)[random.permutation(64)]
    scaled = weights * np.exp(random.standard_normal((64, 1))).astype(np.float32)
    orders = [order_channels([Target(each, 4, 0.5)], [np.arange(64)]) for each in (weights, scaled)]
    groups = [{frozenset(group) for group in order.reshape(16, 4).tolist()} for order in orders]
    assert groups[0] == groups[1]
