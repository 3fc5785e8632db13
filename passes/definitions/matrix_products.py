"""Matrix products of other types than floats: products, and sums of them, that nothing stores in between."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from .base import Body

OPERATORS = ("Gemm", "MatMul")

_TYPES = (
    *(ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT32, ir.DataType.UINT64),
    *(ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16),
)


def define(body: Body, node: ir.Node) -> Sequence[str] | None:
    """None for types that have a kernel, and for unknown ranks."""
    shapes = [None if v is None else v.shape for v in node.inputs[:2]]
    ranks = [len(s) for s in shapes if s is not None]
    if node.inputs[0] is None or node.inputs[0].dtype not in _TYPES or len(ranks) < 2:
        return None
    if node.op_type == "MatMul":
        return [_product(body, body.inputs[0], body.inputs[1], ranks)]
    operands = [
        body.op("Transpose", value, perm=[1, 0]) if node.attributes.get_int(flag, 0) else value
        for value, flag in zip(body.inputs[:2], ("transA", "transB"), strict=True)
    ]
    result = _scaled(body, _product(body, operands[0], operands[1], [2, 2]), node, "alpha")
    if len(body.inputs) > 2 and body.inputs[2]:
        result = body.op("Add", result, _scaled(body, body.inputs[2], node, "beta"))
    return [result]


def _scaled(body: Body, value: str, node: ir.Node, name: str) -> str:
    factor = node.attributes.get_float(name, 1.0)
    return value if factor == 1.0 else str(body.op("Mul", value, body.like(factor, value)))


def _product(body: Body, a: str, b: str, ranks: Sequence[int]) -> str:
    """numpy's matmul: Σₖ a[…, i, k, 1] · b[…, 1, k, j]."""
    if ranks[0] == 1 and ranks[1] == 1:
        return str(body.op("ReduceSum", body.op("Mul", a, b), body.constant([0]), keepdims=0))
    left = body.op("Unsqueeze", a, body.constant([-1]))
    if ranks[1] == 1:
        return str(body.op("ReduceSum", body.op("Mul", a, b), body.constant([-1]), keepdims=0))
    right = b if ranks[0] == 1 else body.op("Unsqueeze", b, body.constant([-3]))
    return str(body.op("ReduceSum", body.op("Mul", left, right), body.constant([-2]), keepdims=0))
