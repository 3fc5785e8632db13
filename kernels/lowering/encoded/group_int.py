"""Products by weights in the format `group-int`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...cpu.isa import Isa
from ...formats.group_int import parse_group_int
from ...grouped_weight import GroupedWeight
from ..grouped_product import grouped_product
from ..state import Encoded
from .base import ProductKernel

__all__ = ["group_int_weight", "product_kernel"]


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The kernel for a few rows."""
    return grouped_product(isa, group_int_weight(encoded.parts), rows)


def group_int_weight(parts: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> GroupedWeight:
    """The codes as they are stored."""
    found = parse_group_int(parts)
    form = found.form
    label = f"int{form.bits} groups of {form.group}" if form.across > 1 else f"int{form.bits}"
    return GroupedWeight(
        found.codes, form.bits, form.group, found.scale, found.zero.astype(np.int32), label=label
    )
