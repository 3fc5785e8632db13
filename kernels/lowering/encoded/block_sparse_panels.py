"""Strips of a block-sparse weight whose values are stored in turn: strips of those values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ...formats.block_sparse import block_grid
from ..state import Encoded, Lowering
from .panels import ZERO, StoredWeight
from .panels import store_strips as store_nested

__all__ = ["store_strips"]

Array = np.ndarray[Any, np.dtype[Any]]


def store_strips(
    state: Lowering, name: str, encoded: Encoded, strips: Sequence[Array]
) -> StoredWeight | None:
    """The strips as the format of the values stores them; None where values are plain, or scaled each."""
    values = encoded.nested.get("values")
    if values is None or (values.parts.get("scale", np.ones(1)) != 1).any():
        return None
    places = _places(encoded.parts)
    moved = [np.where(strip >= 0, places[np.maximum(strip, 0)], strip) for strip in strips]
    return store_nested(state, name, values, moved)


def _places(parts: Mapping[str, Array]) -> Array:
    """Where each weight [O · K] lies among the values, flat; ZERO where its block is not stored."""
    count, rows, columns = parts["values"].shape
    shape = tuple(int(size) for size in parts["shape"])
    down, across = block_grid(shape, rows, columns)
    alive = np.unpackbits(parts["mask"], bitorder="little", count=down * across).astype(bool)
    blocks = np.full((down * across, rows, columns), ZERO, np.int64)
    blocks[alive] = np.arange(count * rows * columns).reshape(count, rows, columns)
    full = blocks.reshape(down, across, rows, columns).swapaxes(1, 2).reshape(down * rows, across * columns)
    return np.ascontiguousarray(full[: shape[0], : prod(shape[1:])]).reshape(-1)
