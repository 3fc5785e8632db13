"""com.microsoft QLinearAdd, Mul, Sigmoid, LeakyRelu, Softmax, Where: Q(f(DQ(x), ...)).

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import onnx_ir as ir

from ..registry import rewrites
from ..writing import Refused, Writer

__all__ = ["rewrite_binary", "rewrite_softmax", "rewrite_unary", "rewrite_where"]

_PER_TENSOR_SOFTMAX = 13
"""The opset from which on Softmax is along one axis; before it flattened the axes behind."""


@rewrites("QLinearAdd", "QLinearMul")
def rewrite_binary(writer: Writer) -> ir.Value:
    """(A, A_scale, A_zero_point, B, B_scale, B_zero_point, C_scale, C_zero_point)"""
    operator = writer.node.op_type.removeprefix("QLinear")
    args = [writer.dequantize(writer.needed(i), writer.needed(i + 1), writer.input(i + 2)) for i in (0, 3)]
    result = writer.add(operator, args, name=writer.node.name or "")
    return writer.quantize(result, writer.needed(6), writer.input(7))


@rewrites("QLinearSigmoid", "QLinearLeakyRelu")
def rewrite_unary(writer: Writer) -> ir.Value:
    """(X, X_scale, X_zero_point, Y_scale, Y_zero_point)"""
    operator = writer.node.op_type.removeprefix("QLinear")
    x = writer.dequantize(writer.needed(0), writer.needed(1), writer.input(2))
    result = writer.add(operator, [x], writer.attributes(), name=writer.node.name or "")
    return writer.quantize(result, writer.needed(3), writer.input(4))


@rewrites("QLinearSoftmax")
def rewrite_softmax(writer: Writer) -> ir.Value:
    """As the unary ones; `opset` says which opset's Softmax is meant."""
    node = writer.node
    x = writer.needed(0)
    axis = node.attributes.get_int("axis", -1)
    rank = len(x.shape) if x.shape is not None else 0
    if node.attributes.get_int("opset", _PER_TENSOR_SOFTMAX) < _PER_TENSOR_SOFTMAX and axis not in (
        -1,
        rank - 1,
    ):
        raise Refused("it is the Softmax before opset 13, over several axes at once")
    y = writer.dequantize(x, writer.needed(1), writer.input(2))
    result = writer.add("Softmax", [y], {"axis": axis}, name=node.name or "")
    return writer.quantize(result, writer.needed(3), writer.input(4))


@rewrites("QLinearWhere")
def rewrite_where(writer: Writer) -> ir.Value:
    """(condition, X, x_scale, x_zero_point, Y, y_scale, y_zero_point, z_scale, z_zero_point)"""
    x, y = (writer.dequantize(writer.needed(i), writer.needed(i + 1), writer.input(i + 2)) for i in (1, 4))
    result = writer.add("Where", [writer.needed(0), x, y], name=writer.node.name or "")
    return writer.quantize(result, writer.needed(7), writer.input(8))
