"""com.microsoft QuantizeLinear and DequantizeLinear, which knew 4 and 16 bits before the standard did."""

from __future__ import annotations

import onnx_ir as ir

from ..registry import rewrites
from ..writing import Writer

__all__ = ["rewrite_linear"]


@rewrites("QuantizeLinear", "DequantizeLinear")
def rewrite_linear(writer: Writer) -> ir.Value:
    """The standard operators of opset 21 take the same inputs and attributes."""
    axis = writer.node.attributes.get_int("axis", 1)
    block = writer.node.attributes.get_int("block_size", 0)
    x, scale, zero = writer.needed(0), writer.needed(1), writer.input(2)
    if writer.node.op_type == "QuantizeLinear":
        return writer.quantize(x, scale, zero, axis, block)
    return writer.dequantize(x, scale, zero, axis, block)
