"""The measure of how far two results are apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gossamer.runtime.comparing import tensor_error
from gossamer.runtime.errors import JobError

NAN, INF = math.nan, math.inf


def test_the_error_is_counted_in_spreads_of_the_expected_values() -> None:
    error = tensor_error(np.array([[0.0, 10.0], [2.0, 4.0]]), np.array([[0.0, 10.0], [2.0, 3.0]]))
    assert (error.max_abs, error.spread, error.relative) == (1.0, 10.0, 0.1)
    assert (error.mean_abs, error.where) == (0.25, (1, 1))


def test_a_constant_has_spread_one() -> None:
    assert tensor_error(np.full(3, 5.0), np.full(3, 5.5)).relative == 0.5


@pytest.mark.parametrize("values", [[1.0, NAN, 3.0], [INF, 0.0, -INF], [NAN, NAN, NAN]])
def test_nan_and_infinities_in_the_same_places_agree(values: list[float]) -> None:
    assert tensor_error(np.array(values), np.array(values)).relative == 0


@pytest.mark.parametrize(
    ("a", "b"),
    [([1.0, NAN], [1.0, 2.0]), ([1.0, 2.0], [NAN, 2.0]), ([1.0, INF], [1.0, -INF]), ([NAN], [INF])],
)
def test_nan_and_infinities_elsewhere_are_an_infinite_error(a: list[float], b: list[float]) -> None:
    error = tensor_error(np.array(a), np.array(b))
    assert error.relative == INF
    assert error.where == ((0,) if b[0] != a[0] else (1,))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool", "float16"])
def test_every_type_is_compared_without_overflow(dtype: str) -> None:
    a = np.array([0, 1, 100]).astype(dtype)
    b = np.array([1, 1, 0]).astype(dtype)
    assert tensor_error(a, b).max_abs == (1 if dtype == "bool" else 100)


def test_empty_arrays_agree() -> None:
    assert tensor_error(np.empty((0, 3)), np.empty((0, 3))).relative == 0


@pytest.mark.parametrize(
    ("b", "words"),
    [(np.zeros(3), "shapes"), (np.zeros((1, 2)), "shapes"), (np.zeros(2, np.float32), "types")],
)
def test_other_shapes_and_types_are_errors(b: Any, words: str) -> None:
    with pytest.raises(JobError, match=words):
        tensor_error(np.zeros(2), b)
