"""ConvInteger: a convolution of integers less their zero points, in int32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.lazy import Lazy
from ..attributes import describe, require_equal
from ..dynamic_convolution import dynamic_convolution
from ..exact_sums import whole_numbers
from ..plain_convolution import plain_convolution
from ..registry import lowers
from ..state import Lowering, filled_shape
from .movement import reshaped, source_of

Array = np.ndarray[Any, np.dtype[Any]]


@lowers("ConvInteger")
def lower_conv_integer(state: Lowering, node: ir.Node) -> None:
    """Any number of spatial axes; what lies outside counts as the zero point."""
    shape = filled_shape(node.outputs[0], describe(node))
    image, weights = (source_of(state, node, i) for i in range(2))
    for operand in (image, weights):
        if operand.dtype not in ("int8", "uint8"):
            raise UnsupportedError("only int8 and uint8", where=describe(node), got=operand.dtype)
    zero = _zero_point(state, node, 2, 0)
    constants = _constant_weights(state, node)
    if constants is not None and dynamic_convolution(state, node, image, constants, zero):
        return
    image = whole_numbers(state, image, zero)
    weights = whole_numbers(state, weights, _zero_point(state, node, 3, len(shape) - 1))
    state.define(node.outputs[0], plain_convolution(state, node, image, weights, shape))


def _constant_weights(state: Lowering, node: ir.Node) -> Array | None:
    """Weights less their zero points (one, or one for each output), if both are constants: int32."""
    integers = state.constant(node.inputs[1])
    zero_value = node.inputs[3] if len(node.inputs) > 3 else None
    zero = state.constant(zero_value)
    if integers is None or (zero_value is not None and zero is None):
        return None
    wide = integers.astype(np.int32)
    if zero is None:
        return wide
    if zero.size > 1:
        require_equal(node, "zero points", len(wide), zero.size)
    return wide - zero.astype(np.int32).reshape((-1, *([1] * (wide.ndim - 1))) if zero.size > 1 else ())


def _zero_point(state: Lowering, node: ir.Node, position: int, after: int) -> Lazy | None:
    """One value, or one for each output channel with `after` axes behind it."""
    if len(node.inputs) <= position or node.inputs[position] is None:
        return None
    zero = source_of(state, node, position)
    if zero.shape in ((), (1,)):
        return reshaped(state, zero, ())
    return reshaped(state, zero, (*zero.shape, *([1] * after)))
