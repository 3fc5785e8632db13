"""Which variants of an operator its kernel takes: conditions for `lowers(..., takes=...)`."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["is_float32", "is_wide", "uses_more_outputs"]


def is_float32(node: ir.Node) -> bool:
    """Whether the first input is of float32, or of a type that is not known."""
    value = node.inputs[0] if node.inputs else None
    return value is None or value.dtype in (None, ir.DataType.FLOAT)


def is_wide(node: ir.Node) -> bool:
    """Whether the first input is not of floats of 16 bits, which are computed as float32."""
    value = node.inputs[0] if node.inputs else None
    return value is None or value.dtype not in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def uses_more_outputs(node: ir.Node) -> bool:
    """Whether anything reads an output behind the first."""
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
