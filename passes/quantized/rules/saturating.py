"""Relu and Clip that saturation does anyway go.

Q(max(y, a)) = Q(y)     where Q(a) is the smallest integer, since Q never decreases
max(DQ(x), a) = DQ(x)   where the smallest integer stands for a or more
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.kernels.quantization import dequantize_linear, integer_range, quantize_linear

from ..canonical import looks_at
from ..parameters import Parameters, is_dequantize, is_quantize, parameters_of
from ..writing import Writer, constant_of

__all__ = ["drop_saturated"]

Array = np.ndarray[Any, Any]


@looks_at("Relu", "Clip")
def drop_saturated(node: ir.Node) -> str:
    """Before QuantizeLinear that all readers are, or behind a DequantizeLinear."""
    limits, source = _limits(node), node.inputs[0]
    if limits is None or source is None:
        return ""
    before = source.producer()
    given = parameters_of(before) if is_dequantize(before) else None
    if given is not None and _within(given, limits):
        Writer(node).give(source)
        return "the integers that it reads stand for nothing beyond its limits"
    readers = [use.node for use in node.outputs[0].uses()]
    if not readers or node.outputs[0].is_graph_output() or not all(map(is_quantize, readers)):
        return ""
    if all((found := parameters_of(reader)) is not None and _saturates(found, limits) for reader in readers):
        Writer(node).give(source)
        return "QuantizeLinear behind it saturates at its limits"
    return ""


def _limits(node: ir.Node) -> tuple[float, float] | None:
    """The smallest and largest result; None where they are known only at run time."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    ends = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        value = node.inputs[index] if len(node.inputs) > index else None
        array = np.asarray(default) if value is None else constant_of(value)
        if array is None or array.size != 1:
            return None
        ends.append(float(array.reshape(())))
    return ends[0], ends[1]


def _ends(given: Parameters) -> tuple[Array, Array, tuple[int, int]] | None:
    known = given.values()
    if known is None or not given.dtype.is_integer() or given.block:
        return None
    return (*known, integer_range(given.dtype.name.lower()))


def _within(given: Parameters, limits: tuple[float, float]) -> bool:
    """Whether the integers stand for nothing beyond the limits, by any of the scales."""
    if (found := _ends(given)) is None:
        return False
    scale, zero, (low, high) = found
    least, most = (
        dequantize_linear(np.full(scale.shape, end, np.int64), scale, zero, axis=0) for end in (low, high)
    )
    return bool((least >= limits[0]).all() and (most <= limits[1]).all())


def _saturates(given: Parameters, limits: tuple[float, float]) -> bool:
    """Whether the limits themselves are quantised to the ends of the range, by each of the scales."""
    if (found := _ends(given)) is None:
        return False
    scale, zero, (low, high) = found
    name = given.dtype.name.lower()
    at = [
        quantize_linear(np.full(scale.shape, x, np.float32), scale, zero, dtype=name, axis=0) for x in limits
    ]
    return bool((at[0] == low).all() and (at[1] == high).all())
