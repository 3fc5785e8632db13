"""Calibration data is checked before any work: every feed has the model's inputs, and finite numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.runtime.errors import FeedError, nearest

from .input_shapes import apply_input_shapes
from .shapes import shape_text

__all__ = ["checked_calibration"]

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]


def checked_calibration(
    model: ir.Model, feeds: Iterable[Feeds], input_shapes: Mapping[str, Sequence[int]] | None = None
) -> list[dict[str, Array]]:
    """`feeds` as a list; one whose arrays hold several of the batches that the model takes becomes several.

    Raises FeedError naming the feed and the input: a name, type or shape other than the model's (with
    `input_shapes`), no elements, or values that are not finite; or where `feeds` is a generator or the like
    that gives none.
    """
    resized = model.clone() if input_shapes else model
    apply_input_shapes(resized, input_shapes or {})
    inputs = {str(v.name): v for v in resized.graph.inputs if not v.is_initializer()}
    found = [each for number, given in enumerate(feeds) for each in _split(inputs, given, number)]
    if not found and not isinstance(feeds, Sequence):
        raise FeedError("calibration data is empty", expected="at least one feed", got="none")
    return found


def _split(inputs: Mapping[str, ir.Value], feeds: Feeds, number: int) -> list[dict[str, Array]]:
    if not isinstance(feeds, Mapping):
        raise FeedError(
            "is not a feed",
            where=f"calibration feed {number}",
            expected="a dict of name: array",
            got=type(feeds).__name__,
        )
    _check_names(inputs, feeds, number)
    arrays = {name: _checked(inputs[name], array, number) for name, array in feeds.items()}
    counts = {_batches(inputs[name], array) for name, array in arrays.items()}
    if counts == {1}:
        return [arrays]
    if len(counts) == 1 and (count := counts.pop()) > 1:
        parts = {name: np.split(array, count) for name, array in arrays.items()}
        return [{name: part[index] for name, part in parts.items()} for index in range(count)]
    wrong = next(name for name, array in arrays.items() if _batches(inputs[name], array) != 1)
    raise FeedError(
        "has the wrong shape",
        where=_where(number, wrong),
        expected=shape_text(inputs[wrong].shape),
        got=list(arrays[wrong].shape),
    )


def _check_names(inputs: Mapping[str, ir.Value], feeds: Feeds, number: int) -> None:
    for name in feeds:
        if name not in inputs:
            raise FeedError(
                "is not an input of the model",
                where=_where(number, name),
                expected=", ".join(inputs) or "no inputs",
                advice=nearest(str(name), list(inputs)),
            )
    missing = [name for name in inputs if name not in feeds]
    if missing:
        raise FeedError(
            "an input has no array",
            where=f"calibration feed {number}",
            expected=", ".join(inputs),
            got="none for " + ", ".join(missing),
        )


def _checked(value: ir.Value, given: Any, number: int) -> Array:
    where = _where(number, str(value.name))
    array = np.asarray(given)
    wanted = value.dtype.numpy() if value.dtype is not None and value.dtype != ir.DataType.STRING else None
    if wanted is not None and array.dtype != wanted:
        raise FeedError("has the wrong type", where=where, expected=wanted.name, got=array.dtype.name)
    if array.size == 0:
        raise FeedError(
            "holds no elements", where=where, expected=shape_text(value.shape), got=list(array.shape)
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0].tolist()
        raise FeedError(
            "is not finite", where=where, expected="finite numbers", got=f"{array[tuple(bad)]} at {bad}"
        )
    return array


def _batches(value: ir.Value, array: Array) -> int:
    """How many times what the model takes the array holds along its first axis; 0 if it does not fit."""
    if value.shape is None:
        return 1
    sizes = list(value.shape)
    if len(sizes) != array.ndim:
        return 0
    pairs = list(zip(sizes, array.shape, strict=True))
    if any(isinstance(size, int) and size != got for size, got in pairs[1:]):
        return 0
    if not pairs or not isinstance(pairs[0][0], int):
        return 1
    size, got = pairs[0][0], pairs[0][1]
    return got // size if size > 0 and got % size == 0 else 0


def _where(number: int, name: object) -> str:
    return f"calibration feed {number}, {name!r}"
