"""Operators that compute each element from those at its place: all axes keep one order."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..axes import Ties, size_of
from ..registry import ties
from .operands import given, is_false, rank

__all__ = ["broadcast"]

_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu "
    "HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu "
    "Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
_BROADCASTING = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Clip Div Equal Greater GreaterOrEqual Less LessOrEqual "
    "Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor"
)


@ties(*_UNARY.split(), *_BROADCASTING.split(), repeatable=True)
def _elementwise(node: ir.Node, found: Ties) -> None:
    broadcast(found, given(node), node.outputs[0])


@ties("CastLike")
def _cast_like(node: ir.Node, found: Ties) -> None:
    broadcast(found, given(node)[:1], node.outputs[0])


@ties("Dropout")
def _dropout(node: ir.Node, found: Ties) -> None:
    if len(node.inputs) < 3 or node.inputs[2] is None or is_false(node.inputs[2]):
        for output in node.outputs:
            broadcast(found, given(node)[:1], output)


def broadcast(found: Ties, values: Sequence[ir.Value], result: ir.Value, leave: int = 0) -> None:
    """Ties the axes of `values` to those of `result` that they are broadcast to, counted from the last.

    The last `leave` axes of each are left out.
    """
    total = rank(result) - leave
    found.free(*((result, index) for index in range(total)))
    for value in values:
        own = rank(value) - leave
        for index in range(own):
            if size_of((value, index)) == 1:
                found.free((value, index))
            elif total >= own:
                found.same((result, index + total - own), (value, index))
