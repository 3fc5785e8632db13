"""com.microsoft QLinearAveragePool, GlobalAveragePool, ReduceMean and Concat.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..registry import rewrites
from ..writing import Refused, Writer

__all__ = ["rewrite_concat", "rewrite_pool", "rewrite_reduce_mean"]


@rewrites("QLinearAveragePool", "QLinearGlobalAveragePool")
def rewrite_pool(writer: Writer) -> ir.Value:
    """(X, x_scale, x_zero_point, y_scale, y_zero_point)"""
    node = writer.node
    if node.attributes.get_int("channels_last", 0):
        raise Refused("its channels come last, which pooling in ONNX does not know")
    x = writer.dequantize(writer.needed(0), writer.needed(1), writer.input(2))
    operator = node.op_type.removeprefix("QLinear")
    result = writer.add(operator, [x], writer.attributes("channels_last"), name=node.name or "")
    return writer.quantize(result, writer.needed(3), writer.input(4))


@rewrites("QLinearReduceMean")
def rewrite_reduce_mean(writer: Writer) -> ir.Value:
    """(data, data_scale, data_zero_point, reduced_scale, reduced_zero_point); `axes` is an attribute."""
    node = writer.node
    x = writer.dequantize(writer.needed(0), writer.needed(1), writer.input(2))
    axes = [int(axis) for axis in node.attributes["axes"].as_ints()] if "axes" in node.attributes else []
    inputs = [x, writer.constant("axes", np.array(axes, np.int64))] if axes else [x]
    result = writer.add("ReduceMean", inputs, writer.attributes("axes"), name=node.name or "")
    return writer.quantize(result, writer.needed(3), writer.input(4))


@rewrites("QLinearConcat")
def rewrite_concat(writer: Writer) -> ir.Value:
    """(Y_scale, Y_zero_point, then X, x_scale, x_zero_point of each part)"""
    if len(writer.node.inputs) % 3 != 2:
        writer.needed(len(writer.node.inputs))
    parts = [
        writer.dequantize(writer.needed(i), writer.needed(i + 1), writer.input(i + 2))
        for i in range(2, len(writer.node.inputs), 3)
    ]
    result = writer.add("Concat", parts, writer.attributes(), name=writer.node.name or "")
    return writer.quantize(result, writer.needed(0), writer.input(1))
