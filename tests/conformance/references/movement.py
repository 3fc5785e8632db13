"""Operators that move elements: exact. https://onnx.ai/onnx/operators/onnx__ScatterND.html"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..bounded import Array, Attributes, Bounded, defines


def _moved(x: Bounded, move: Callable[[Array], Array]) -> Bounded:
    return Bounded(move(x.value), move(x.error))


@defines("Transpose")
def transpose(operator: str, attributes: Attributes, x: Bounded) -> Bounded:
    """By `perm`, reversed without it."""
    return _moved(x, lambda a: np.transpose(a, attributes.get("perm")))


@defines("Reshape")
def reshape(operator: str, attributes: Attributes, x: Bounded, shape: Bounded) -> Bounded:
    """To a shape without zeros."""
    return _moved(x, lambda a: a.reshape(tuple(int(n) for n in shape.value)))


@defines("Pad")
def pad(operator: str, attributes: Attributes, x: Bounded, pads: Bounded) -> Bounded:
    """With zeros."""
    rank = x.value.ndim
    room = [(int(pads.value[i]), int(pads.value[rank + i])) for i in range(rank)]
    return _moved(x, lambda a: np.pad(a, room))


@defines("Concat")
def concat(operator: str, attributes: Attributes, *parts: Bounded) -> Bounded:
    """Along `axis`."""
    axis = attributes["axis"]
    return Bounded(
        np.concatenate([p.value for p in parts], axis), np.concatenate([p.error for p in parts], axis)
    )


@defines("Gather")
def gather(operator: str, attributes: Attributes, x: Bounded, places: Bounded) -> Bounded:
    """Places from the end are negative."""
    return _moved(x, lambda a: np.take(a, places.value, axis=attributes.get("axis", 0)))


@defines("ScatterND")
def scatter(operator: str, attributes: Attributes, x: Bounded, places: Bounded, updates: Bounded) -> Bounded:
    """Slices are replaced or added to."""
    value, magnitude = x.value.copy(), abs(x.value)
    where = tuple(np.moveaxis(places.value, -1, 0))
    if attributes.get("reduction", "none") == "add":
        np.add.at(value, where, updates.value)
        np.add.at(magnitude, where, abs(updates.value))
        return Bounded(value, x.error).rounded(operator, magnitude)
    value[where] = updates.value
    return Bounded(value, x.error)
