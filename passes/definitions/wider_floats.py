"""Operators whose kernels compute in float32, of floats of 16 bits: rounded before and after.

That is what processors without arithmetic of 16 bits do, and no less exact than it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from .base import Body

OPERATORS = (
    "AveragePool",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "GRU",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LSTM",
    "LpNormalization",
    "LpPool",
    "MatMul",
    "RNN",
    "Resize",
)

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def define(body: Body, node: ir.Node) -> Sequence[str] | None:
    """The same operator between Casts; None for other types."""
    narrow = [value is not None and value.dtype in _NARROW for value in node.inputs]
    if not any(narrow):
        return None
    first = next(v for v, is_narrow in zip(body.inputs, narrow, strict=True) if is_narrow)
    inputs = [
        body.op("Cast", value, to=int(ir.DataType.FLOAT)) if is_narrow else value
        for value, is_narrow in zip(body.inputs, narrow, strict=True)
    ]
    results = body.like_node(node, inputs)
    return [body.op("CastLike", result, first) if result else "" for result in results]
