"""com.microsoft DynamicQuantizeMatMul and MatMulIntegerToFloat, in standard operators.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import onnx_ir as ir

from ..registry import rewrites
from ..writing import Writer

__all__ = ["rewrite_dynamic_product", "rewrite_integer_product"]


@rewrites("DynamicQuantizeMatMul")
def rewrite_dynamic_product(writer: Writer) -> ir.Value:
    """(A float, B, b_scale, b_zero_point, bias): A is quantised by its own range, as uint8."""
    a = writer.add("DynamicQuantizeLinear", [writer.needed(0)], outputs=3)
    node = a.producer()
    assert node is not None
    return _product(
        writer,
        (a, writer.needed(1)),
        (node.outputs[1], writer.needed(2)),
        (node.outputs[2], writer.input(3)),
        writer.input(4),
    )


@rewrites("MatMulIntegerToFloat")
def rewrite_integer_product(writer: Writer) -> ir.Value:
    """(A, B, a_scale, b_scale, a_zero_point, b_zero_point, bias)"""
    return _product(
        writer,
        (writer.needed(0), writer.needed(1)),
        (writer.needed(2), writer.needed(3)),
        (writer.input(4), writer.input(5)),
        writer.input(6),
    )


def _product(
    writer: Writer,
    operands: tuple[ir.Value, ir.Value],
    scales: tuple[ir.Value, ir.Value],
    zeros: tuple[ir.Value | None, ir.Value | None],
    bias: ir.Value | None,
) -> ir.Value:
    """Cast(MatMulInteger(a, b)) * (a_scale * b_scale) + bias, as onnxruntime's quantiser writes it."""
    inputs = [*operands, *(zeros if zeros[1] is not None else zeros[:1] if zeros[0] is not None else ())]
    integers = writer.add("MatMulInteger", inputs, name=writer.node.name or "")
    floats = writer.add("Cast", [integers], {"to": int(ir.DataType.FLOAT)})
    factor = writer.add("Mul", list(scales), name=f"{writer.node.name}_scales")
    result = writer.add("Mul", [floats, factor])
    return result if bias is None else writer.add("Add", [result, bias])
