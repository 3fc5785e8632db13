"""Weights that DequantizeLinear decodes: integers or small floats, a scale for tensors, channels or groups.

The graph gives them in any orientation; here a weight is a matrix [O, K] of codes (`GroupedWeight`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cpu.isa import Isa
from ...grouped_weight import ELEMENTS, GroupedWeight, element_values
from ...quantization import integer_range
from ..grouped_product import grouped_product
from ..state import Encoded
from .base import ProductKernel

__all__ = ["LINEAR", "linear_weight", "product_kernel", "stored_linearly"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Linear:
    """What DequantizeLinear stores, beside the formats of `kernels/formats`."""

    name: str = "linear"


LINEAR = _Linear()


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The kernel for a few rows."""
    return grouped_product(isa, linear_weight(encoded.parts), rows)


def stored_linearly(
    x: Array, scale: Array, zero: Array | None, axis: int, block: int, outputs_last: bool
) -> Encoded | None:
    """How the constant that a DequantizeLinear gives is stored; None where scales are not those of outputs
    and groups of their inputs.

    `outputs_last` decides for a matrix of one scale alone: others tell by their axis.
    """
    if x.ndim < 2 or x.size == 0 or _element(x) is None:
        return None
    axis, whole = axis % x.ndim, scale.size == 1 and not block
    last = x.ndim == 2 and (outputs_last if whole else axis == (0 if block else 1))
    if not whole and axis != (x.ndim - 1 if last else 0) and not block:
        return None
    if block and (axis != (0 if last else 1) or prod(x.shape[2:]) > 1):  # each pixel has scales of its own
        return None
    parts = {"x": x.T if last else x, "block": np.array(block)}
    parts["scale"] = _outputs_first(scale, block, last)
    if zero is not None:
        parts["zero"] = _outputs_first(zero, block, last)
    encoded = Encoded(LINEAR, parts, transposed=last)
    return encoded if np.isfinite(parts["scale"].astype(np.float32)).all() and _finite(encoded) else None


def _outputs_first(values: Array, block: int, last: bool) -> Array:
    """[1, 1], [O, 1] or [O, groups]."""
    if not block:
        return values.reshape(-1, 1)
    return values.T if last else values.reshape(values.shape[:2])


def _element(x: Array) -> str | None:
    name = x.dtype.name.replace("_", "")
    if x.dtype.kind in "iu" or name.startswith(("int", "uint")):
        return "integer" if integer_range(name)[1] <= 255 else None
    return name if name in ELEMENTS else None


def _finite(encoded: Encoded) -> bool:
    weight = linear_weight(encoded.parts)
    used = np.bincount(weight.codes.reshape(-1), minlength=256)[: 1 << weight.bits] > 0
    return bool(np.isfinite(element_values(weight.element, weight.bits)[used]).all())


def linear_weight(parts: Mapping[str, Array]) -> GroupedWeight:
    """The weight as codes, unsigned: signed integers and their zero points are moved up by half the range."""
    x, scale = parts["x"], parts["scale"]
    matrix = np.ascontiguousarray(x).reshape(len(x), -1)
    element = _element(x)
    assert element is not None
    group = int(parts["block"]) or matrix.shape[1]
    if element != "integer":
        codes, offset, bits = matrix.view(np.uint8), 0, ELEMENTS[element]
    else:
        low, high = integer_range(x.dtype.name)
        codes, offset, bits = (
            (matrix.astype(np.int32) - low).astype(np.uint8),
            -low,
            (high - low).bit_length(),
        )
    shape = (len(x), -(-matrix.shape[1] // group))
    zero = parts.get("zero")
    zeros = np.zeros((1, 1), np.int32) if zero is None else zero.astype(np.float32).astype(np.int32)
    return GroupedWeight(
        codes,
        bits,
        group,
        np.broadcast_to(scale.astype(np.float32), shape),
        np.broadcast_to(zeros + offset, shape),
        element,
        _label(x.dtype.name, group, shape[1]),
    )


def _label(name: str, group: int, groups: int) -> str:
    kind = name.replace("_", "").replace("float8", "float8 ").replace("float4", "float4 ")
    return f"{kind} groups of {group}" if groups > 1 else kind
