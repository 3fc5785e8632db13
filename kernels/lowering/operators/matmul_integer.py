"""MatMulInteger: products of integers less their zero points, in int32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.lazy import Lazy
from ..attributes import describe, require_equal
from ..exact_sums import matrix_sums, whole_numbers
from ..integer_dynamic import dynamic_product
from ..registry import lowers
from ..state import Lowering, filled_shape
from .movement import reshaped, source_of

Array = np.ndarray[Any, np.dtype[Any]]
_TYPES = ("int8", "uint8")


@lowers("MatMulInteger")
def lower_matmul_integer(state: Lowering, node: ir.Node) -> None:
    """numpy's matmul of (A - zero point of A) and (B - zero point of B), vectors included."""
    shape = filled_shape(node.outputs[0], describe(node))
    left, right = (source_of(state, node, i) for i in range(2))
    for operand in (left, right):
        if operand.dtype not in _TYPES:
            raise UnsupportedError("only int8 and uint8", where=describe(node), got=operand.dtype)
    left = reshaped(state, left, (1, *left.shape)) if len(left.shape) == 1 else left
    right = reshaped(state, right, (*right.shape, 1)) if len(right.shape) == 1 else right
    require_equal(node, "inner sizes", left.shape[-1], right.shape[-2])
    weights = _constant_weights(state, node, right)
    zero = _zero_point(state, node, 2, (left.shape[-2], 1))
    if weights is not None and (zero is None or zero.shape == ()):
        dynamic_product(state, node, source_of(state, node), weights, zero)
        return
    left = whole_numbers(state, left, zero)
    right = whole_numbers(state, right, _zero_point(state, node, 3, (1, right.shape[-1])))
    state.define(node.outputs[0], reshaped(state, matrix_sums(state, left, right), shape))


def _constant_weights(state: Lowering, node: ir.Node, right: Lazy) -> Array | None:
    """B less its zero points as (N, K) int32, if both are constants of one matrix."""
    integers = state.constant(node.inputs[1])
    zero_value = node.inputs[3] if len(node.inputs) > 3 else None
    zero = state.constant(zero_value)
    if integers is None or integers.ndim != 2 or (zero_value is not None and zero is None):
        return None
    wide = integers.astype(np.int32)
    if zero is not None and zero.size > 1:
        require_equal(node, "zero points", integers.shape[1], zero.size)
        zero = zero.reshape(-1)
    return np.ascontiguousarray((wide if zero is None else wide - zero.astype(np.int32)).T)


def _zero_point(state: Lowering, node: ir.Node, position: int, line: tuple[int, int]) -> Lazy | None:
    """One value, one for each row of A or column of B, or an array with an axis of 1 where these are read."""
    if len(node.inputs) <= position or node.inputs[position] is None:
        return None
    zero = source_of(state, node, position)
    if zero.shape in ((), (1,)):
        return reshaped(state, zero, ())
    if len(zero.shape) > 1:
        return zero
    require_equal(node, "zero points", (max(line),), zero.shape)
    return reshaped(state, zero, line)
