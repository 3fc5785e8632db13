"""Strips of weights in the format `group-int`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..grouped_store import store_grouped
from ..state import Encoded, Lowering
from .group_int import group_int_weight
from .panels import StoredWeight

__all__ = ["store_strips"]


def store_strips(
    state: Lowering, name: str, encoded: Encoded, strips: Sequence[np.ndarray[Any, np.dtype[Any]]]
) -> StoredWeight | None:
    """Codes in the order of the strips; None where a strip is not whole rows."""
    return store_grouped(state, name, group_int_weight(encoded.parts), strips)
