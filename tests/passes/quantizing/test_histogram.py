"""A histogram depends on the values alone, and counts them all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.passes.quantizing.histogram import BINS, Histogram


def filled(*arrays: np.ndarray) -> Histogram:
    found = Histogram()
    for array in arrays:
        found.add(array.astype(np.float32))
    return found


def state(histogram: Histogram) -> tuple[object, ...]:
    return (
        *(histogram.low, histogram.high, histogram.zeros, histogram.exponent, histogram.first),
        histogram.counts.tolist(),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.floats(0.1, 10))
def test_the_order_of_arrays_makes_no_difference(seed: int, scale: float, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal(50) * scale * ratio**i for i in range(4)]
    assert state(filled(*parts)) == state(filled(*parts[::-1])) == state(filled(np.concatenate(parts)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_merging_counts_what_both_have_counted(seed: int, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    one, two = rng.standard_normal(80), rng.standard_normal(80) * ratio
    joint = filled(one)
    joint.merge(filled(two))
    assert state(joint) == state(filled(one, two))


def test_memory_is_bounded_and_bins_stay_fine() -> None:
    found = filled(np.array([1e-20]), np.array([0.0, 0.0]), np.linspace(-1, 3, 10_001))
    assert len(found.counts) <= BINS
    assert found.counts.sum() + found.zeros == 10_004
    assert (found.low, found.high, found.zeros) == (-1.0, 3.0, 3)
    assert found.width <= 4 / (BINS / 4)
    mean = (found.centres * found.counts).sum() / found.counts.sum()
    assert mean == pytest.approx(1.0, abs=found.width)


def test_zeros_alone_have_no_range() -> None:
    found = filled(np.zeros(5))
    assert (found.low, found.high, found.zeros, found.counts.size) == (0.0, 0.0, 5, 0)
