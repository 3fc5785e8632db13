"""Calibration data that does not fit is refused, saying which feed and input, what was expected and got."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.calibration_feeds import checked_calibration
from gossamer.runtime.errors import FeedError

ONES = np.ones((1, 3, 12, 12), np.float32)


def broken(value: float) -> np.ndarray:
    array = ONES.copy()
    array[0, 1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"x": broken(np.nan)}, r"feed 1, 'x'.*finite.*nan at \[0, 1, 2, 3\]"),
        ({"x": broken(np.inf)}, r"feed 1, 'x'.*finite.*inf"),
        ({"y": ONES}, r"feed 1, 'y'.*not an input.*expected x"),
        ({}, r"feed 1.*expected x.*none for x"),
        ({"x": ONES[:, :2]}, r"feed 1, 'x'.*shape.*\[1, 3, 12, 12\].*\[1, 2, 12, 12\]"),
        ({"x": ONES[0]}, r"feed 1, 'x'.*shape.*\[3, 12, 12\]"),
        ({"x": ONES[:0]}, r"feed 1, 'x'.*no elements.*\[0, 3, 12, 12\]"),
        ({"x": ONES.astype(np.float64)}, r"feed 1, 'x'.*type.*float32.*float64"),
        ([ONES], r"feed 1.*dict.*list"),
    ],
)
def test_a_wrong_feed_is_named(cnn: ir.Model, feeds: Any, message: str) -> None:
    with pytest.raises(FeedError) as error:
        checked_calibration(cnn, [{"x": ONES}, feeds])
    assert re.search(message, str(error.value)), str(error.value)


def test_an_iterable_may_be_anything_but_empty(cnn: ir.Model) -> None:
    def feeds(count: int) -> Iterator[dict[str, np.ndarray]]:
        yield from ({"x": ONES * i} for i in range(count))

    assert [float(f["x"].max()) for f in checked_calibration(cnn, feeds(3))] == [0, 1, 2]
    with pytest.raises(FeedError, match="empty"):
        checked_calibration(cnn, feeds(0))
    assert checked_calibration(cnn, ()) == []


def test_an_array_of_many_samples_is_cut_into_batches(cnn: ir.Model) -> None:
    many = np.random.default_rng(0).standard_normal((5, 3, 12, 12)).astype(np.float32)
    found = checked_calibration(cnn, [{"x": many}])
    np.testing.assert_array_equal(np.concatenate([f["x"] for f in found]), many)
    assert {f["x"].shape for f in found} == {(1, 3, 12, 12)}


def test_given_shapes_replace_those_of_the_model(cnn: ir.Model) -> None:
    wide = np.ones((1, 3, 12, 20), np.float32)
    assert len(checked_calibration(cnn, [{"x": wide}], {"x": (1, 3, 12, 20)})) == 1
    assert list(cnn.graph.inputs[0].shape or ()) == [1, 3, 12, 12]
