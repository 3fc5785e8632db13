"""Strips of groups in 4 bits: for each G inputs, the groups of the strip's outputs that survive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...cpu.group_strips import GroupStrips
from ...cpu.half import half_bits
from ...formats.group_sparse_int4 import parse_groups
from ..state import Encoded, Lowering
from .panels import StoredWeight
from .strip_rows import whole_rows

__all__ = ["store_strips"]

Array = np.ndarray[Any, np.dtype[Any]]


def store_strips(
    state: Lowering, name: str, encoded: Encoded, strips: Sequence[Array]
) -> StoredWeight | None:
    """The groups in the order of the strips; None where a strip is not all inputs in order."""
    groups = parse_groups(encoded.parts)
    outputs = whole_rows(strips, int(np.prod(groups.shape[1:])))
    if outputs is None:
        return None
    count, width = outputs.shape
    home = np.full(len(groups.row_starts) - 1, -1)  # of each output: strip * width + place in it
    real = outputs >= 0
    home[outputs[real]] = np.flatnonzero(real.reshape(-1))
    place = home[groups.rows]
    kept = np.flatnonzero(place >= 0)
    step = place[kept] // width * groups.across + groups.columns[kept]
    order = kept[np.argsort(step * width + place[kept] % width, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(step, minlength=count * groups.across))])
    levels, half = groups.levels[order], groups.size // 2
    arrays = {
        "starts": starts.astype(np.int32),
        "levels": levels[:, :half] | levels[:, half:] << 4,
        "scales": half_bits(groups.scale[order]),
        "places": (place[order] % width | groups.zero[order] << 4).astype(np.uint8),
    }
    label = f"group-sparse int4 G{groups.size}"
    tensors = tuple(state.pool.add(f"{name}.{part}", _filled(array), label) for part, array in arrays.items())
    form = GroupStrips(tensors, width, groups.size * width, groups.size)
    return StoredWeight(form, label, sum(array.nbytes for array in arrays.values()))


def _filled(array: Array) -> Array:
    """At least one element: a weight without groups is stored too."""
    return array if array.size else np.zeros((1, *array.shape[1:]), array.dtype)
