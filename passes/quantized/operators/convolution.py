"""QLinearConv(x, w) = Q(Conv(DQ(x), DQ(w), DQ(bias))).

https://onnx.ai/onnx/operators/onnx__QLinearConv.html
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..registry import CONTRIB, rewrites
from ..writing import Refused, Writer, constant_of

__all__ = ["rewrite_convolution"]


@rewrites("QLinearConv", domain=CONTRIB)
@rewrites("QLinearConv", domain="")
def rewrite_convolution(writer: Writer) -> ir.Value:
    """The bias is int32 with the scale x_scale * w_scale."""
    last = writer.node.attributes.get_int("channels_last", 0)
    if last:
        raise Refused("its channels come last, which Conv does not know")
    x_scale, w_scale = writer.needed(1), writer.needed(4)
    x = writer.dequantize(writer.needed(0), x_scale, writer.input(2))
    w = writer.dequantize(writer.needed(3), w_scale, writer.input(5), axis=0)
    inputs = [x, w]
    if (bias := writer.input(8)) is not None:
        inputs.append(_bias(writer, bias, x_scale, w_scale))
    result = writer.add("Conv", inputs, writer.attributes("channels_last"), name=writer.node.name or "")
    return writer.quantize(result, writer.needed(6), writer.input(7))


def _bias(writer: Writer, bias: ir.Value, x_scale: ir.Value, w_scale: ir.Value) -> ir.Value:
    given = constant_of(x_scale), constant_of(w_scale)
    if given[0] is None or given[1] is None:
        scale = writer.add("Mul", [x_scale, w_scale])
        scale.shape, scale.type = w_scale.shape, ir.TensorType(ir.DataType.FLOAT)
    else:
        product = np.asarray(given[0].reshape(()).astype(np.float32) * given[1].astype(np.float32))
        scale = writer.constant("bias_scale", product)
    return writer.dequantize(bias, scale, None, axis=0)
