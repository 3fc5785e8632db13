"""Axes, bounds and shapes that are fed: exact where they give the declared shape, else the run fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import gossamer
from gossamer.runtime.errors import FeedError
from gossamer.runtime.session import InferenceSession

X = np.arange(12, dtype=np.float32).reshape(2, 2, 3) - 5


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def opened(
    folder: Path, operator: str, out: tuple[int, ...], *lengths: int | None, **attributes: Any
) -> InferenceSession:
    """A session of one operator of X and int64 inputs p0, p1 … of so many elements; None is a scalar."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(X.shape))]
    for i, length in enumerate(lengths):
        shape = [] if length is None else [length]
        given.append(helper.make_tensor_value_info(f"p{i}", TensorProto.INT64, shape))
    names = [value.name for value in given]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(out))
    graph = helper.make_graph([helper.make_node(operator, names, ["y"], **attributes)], "fed", given, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return gossamer.compile(model, out=folder / operator.lower(), verify=False).session()


def result(session: InferenceSession, *parameters: np.ndarray) -> np.ndarray:
    feeds = {f"p{i}": array for i, array in enumerate(parameters)}
    return np.asarray(session.run(None, {"x": X, **feeds})[0])


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceSession]:
    """ReduceSum to (2, 3): over the first axis or the second."""
    with opened(tmp_path_factory.mktemp("fed"), "ReduceSum", (2, 3), 1, keepdims=0) as session:
        yield session


@pytest.mark.parametrize("axis", [0, 1, -2, -3])
def test_the_axis_that_is_fed_is_reduced(sums: InferenceSession, axis: int) -> None:
    assert np.allclose(result(sums, integers(axis)), X.sum(axis), atol=1e-5)


@pytest.mark.parametrize("axis", [2, -1, 7])
def test_an_axis_that_gives_another_shape_fails_the_run(sums: InferenceSession, axis: int) -> None:
    with pytest.raises(FeedError, match="another shape than the model declares"):
        result(sums, integers(axis))
    assert np.allclose(result(sums, integers(0)), X.sum(0), atol=1e-5)


@pytest.mark.parametrize(
    ("start", "end", "axis", "step"),
    [(0, 4, 2, 2), (2, -9, -1, -2), (-3, 3, 2, 2), (0, 2, 2, 1), (1, 100, 2, 1)],
)
def test_slices_start_where_they_are_told(tmp_path: Path, start: int, end: int, axis: int, step: int) -> None:
    with opened(tmp_path, "Slice", (2, 2, 2), 1, 1, 1, 1) as session:
        got = result(session, *map(integers, (start, end, axis, step)))
        stop = None if step < 0 and end < -3 else end
        assert np.array_equal(got, X[:, :, slice(start, stop, step)])
        with pytest.raises(FeedError):
            result(session, integers(0), integers(1), integers(2), integers(1))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_margins_are_those_that_are_fed(tmp_path: Path, mode: str, before: int) -> None:
    pads = [(0, 0), (0, 0), (before, 2 - before)]
    with opened(tmp_path, "Pad", (2, 2, 5), 6, mode=mode) as session:
        got = result(session, integers(0, 0, before, 0, 0, 2 - before))
        assert np.array_equal(got, np.pad(X, pads, mode))  # type: ignore[call-overload]


@pytest.mark.parametrize("shape", [(4, 3), (-1, 3), (4, -1)])
def test_shapes_may_leave_a_size_open(tmp_path: Path, shape: tuple[int, int]) -> None:
    with opened(tmp_path, "Reshape", (4, 3), 2) as session:
        assert np.array_equal(result(session, integers(*shape)), X.reshape(4, 3))
        with pytest.raises(FeedError):
            result(session, integers(3, 4))


def test_axes_of_one_are_put_where_they_are_fed(tmp_path: Path) -> None:
    with opened(tmp_path, "Unsqueeze", (2, 1, 2, 3), 1) as session:
        assert np.array_equal(result(session, integers(1)), X[:, None])
        assert np.array_equal(result(session, integers(-3)), X[:, None])
        with pytest.raises(FeedError):
            result(session, integers(0))


def test_diagonals_are_fed(tmp_path: Path) -> None:
    with opened(tmp_path, "Trilu", X.shape, None) as session:
        for k in (-3, -1, 0, 1, 5):
            assert np.array_equal(result(session, np.array(k, np.int64)), np.triu(X, k))
