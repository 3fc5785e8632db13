"""Strips of a weight with outliers: those of its base, whatever its format, and a list for each strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cpu.outlier_strips import OutlierStrips
from ...formats.outliers import outlier_places
from ..state import Encoded, Lowering
from .panels import StoredWeight
from .panels import store_strips as strips_of

__all__ = ["store_strips"]

Array = npt.NDArray[Any]


def store_strips(
    state: Lowering, name: str, encoded: Encoded, strips: Sequence[Array]
) -> StoredWeight | None:
    """The strips of the base and their outliers; None where the base has no strips."""
    base = encoded.nested.get("base")
    stored = strips_of(state, name, base, strips) if base is not None and not base.transposed else None
    if stored is None:
        return None
    values = encoded.parts["values"]
    if stored.scale is not None:  # results are multiplied by it, outliers too
        rows = outlier_places(encoded.parts) // prod(encoded.parts["base"].shape[1:])
        if (stored.scale[rows] == 0).any():
            return None
        values = values.astype(np.float32) / stored.scale[rows]
    arrays = _lists(outlier_places(encoded.parts), values, strips)
    more = (state.pool.add(f"{name}.{part}", array, "outliers") for part, array in arrays.items())
    inner = stored.strips
    form = OutlierStrips((*inner.tensors, *more), inner.width, inner.step, inner)
    size = stored.bytes + sum(array.nbytes for array in arrays.values())
    return replace(stored, strips=form, format=f"{stored.format} + outliers", bytes=size)


def _lists(places: Array, values: Array, strips: Sequence[Array]) -> dict[str, Array]:
    """starts, places and values as `OutlierStrips` reads them."""
    starts, found, kept = [0], [np.zeros(1, np.int64)], [np.zeros(1, values.dtype)]
    for strip in strips:
        flat = strip.reshape(-1)
        index = np.minimum(np.searchsorted(places, flat), len(places) - 1)
        at = np.flatnonzero(places[index] == flat) if len(places) else np.zeros(0, np.int64)
        starts.append(starts[-1] + len(at))
        found.append(at)
        kept.append(values[index[at]])
    wide = strips[0].size > 1 << 16
    joined = np.concatenate([*found[1:], found[0]]).astype(np.int32 if wide else np.uint16)
    numbers = np.concatenate([*kept[1:], kept[0]])  # a last one that no strip has: no array is empty
    return {
        "starts": np.array(starts, np.int32),
        "places": joined,
        "values": numbers.view(np.uint16) if numbers.dtype == np.float16 else numbers,
    }
