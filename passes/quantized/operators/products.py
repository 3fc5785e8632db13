"""QLinearMatMul and QGemm: matrix products of integers.

https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QGemm
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..registry import CONTRIB, rewrites
from ..writing import Refused, Writer, constant_of

__all__ = ["rewrite_gemm", "rewrite_matmul"]


@rewrites("QLinearMatMul", domain=CONTRIB)
@rewrites("QLinearMatMul", domain="")
def rewrite_matmul(writer: Writer) -> ir.Value:
    """Q(MatMul(DQ(a), DQ(b))); `a` may have a scale for each row, `b` for each column."""
    a = writer.dequantize(
        writer.needed(0), writer.needed(1), writer.input(2), _last_axis(writer, 0, 1, before=1)
    )
    b = writer.dequantize(writer.needed(3), writer.needed(4), writer.input(5), _last_axis(writer, 3, 4))
    product = writer.add("MatMul", [a, b], name=writer.node.name or "")
    return writer.quantize(product, writer.needed(6), writer.input(7))


def _last_axis(writer: Writer, data: int, scale: int, before: int = 0) -> int:
    """The axis that a one-dimensional scale belongs to: the last one, or one `before` it."""
    shape = writer.needed(scale).shape
    if shape is None or len(shape) > 1:
        raise Refused("a scale for each matrix of a stack has no form as DequantizeLinear")
    rank = writer.needed(data).shape
    if rank is None:
        raise Refused("the rank of an operand is not known")
    return max(0, len(rank) - 1 - before)


@rewrites("QGemm")
def rewrite_gemm(writer: Writer) -> ir.Value:
    """alpha * A * B + C, where C is int32 with the scale alpha * a_scale * b_scale; float without y_scale."""
    node = writer.node
    a_scale, b_scale = constant_of(writer.needed(1)), constant_of(writer.needed(4))
    turned = node.attributes.get_int("transB", 0)
    a = writer.dequantize(writer.needed(0), writer.needed(1), writer.input(2))
    b = writer.dequantize(writer.needed(3), writer.needed(4), writer.input(5), axis=0 if turned else 1)
    inputs = [a, b]
    if (bias := writer.input(6)) is not None:
        if a_scale is None or b_scale is None:
            raise Refused("the scale of its bias is known only at run time")
        alpha = np.float32(node.attributes.get_float("alpha", 1.0))
        scale = np.asarray(alpha * a_scale.reshape(()).astype(np.float32) * b_scale.astype(np.float32))
        rank = len(bias.shape) if bias.shape is not None else 1
        inputs.append(writer.dequantize(bias, writer.constant("bias_scale", scale), None, max(0, rank - 1)))
    result = writer.add("Gemm", inputs, writer.attributes(), name=node.name or "")
    return result if writer.input(7) is None else writer.quantize(result, writer.needed(7), writer.input(8))
