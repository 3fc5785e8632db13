"""Products by weights in the format `group-float4`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...cpu.isa import Isa
from ...formats.group_float4 import parse_group_float4
from ...grouped_weight import GroupedWeight
from ..grouped_product import grouped_product
from ..state import Encoded
from .base import ProductKernel

__all__ = ["group_float4_weight", "product_kernel"]


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The kernel for a few rows: twice a float4 is a small integer."""
    return grouped_product(isa, group_float4_weight(encoded.parts), rows)


def group_float4_weight(parts: Mapping[str, np.ndarray[Any, np.dtype[Any]]]) -> GroupedWeight:
    """The codes as they are stored; scales of channels and shifts of groups are one scale."""
    found = parse_group_float4(parts)
    form, shape = found.form, found.shift.shape
    label = f"float4 groups of {form.group}" if form.across > 1 else "float4"
    scales = np.ascontiguousarray(np.broadcast_to(found.scales, shape), np.float32)
    zeros = np.zeros(shape, np.int32)
    return GroupedWeight(found.codes, 4, form.group, scales, zeros, "float4e2m1", label)
