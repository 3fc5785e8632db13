"""ConvInteger: a convolution of integers less their zero points, in int32."""

from __future__ import annotations

import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.lazy import Fill, Lazy, Leaf
from ..attributes import describe, integer, integers, require_equal, text
from ..exact_sums import convolution_sums, whole_numbers
from ..registry import lowers
from ..state import Lowering, filled_shape
from .movement import padded, reshaped, source_of


@lowers("ConvInteger")
def lower_conv_integer(state: Lowering, node: ir.Node) -> None:
    """Any number of spatial axes; what lies outside counts as the zero point."""
    shape = filled_shape(node.outputs[0], describe(node))
    image, weights = (source_of(state, node, i) for i in range(2))
    for operand in (image, weights):
        if operand.dtype not in ("int8", "uint8"):
            raise UnsupportedError("only int8 and uint8", where=describe(node), got=operand.dtype)
    groups, space = integer(node, "group", 1), len(shape) - 2
    require_equal(node, "input channels", image.shape[1], weights.shape[1] * groups)
    require_equal(node, "output channels", (shape[1], 0), (weights.shape[0], weights.shape[0] % groups))
    strides = integers(node, "strides", (1,) * space)
    dilations = integers(node, "dilations", (1,) * space)
    image = whole_numbers(state, image, _zero_point(state, node, 2, 0))
    weights = whole_numbers(state, weights, _zero_point(state, node, 3, space + 1))
    before, after = _pads(node, image.shape[2:], shape[2:], weights.shape[2:], strides, dilations)
    margins = ([0, 0, *before], [0, 0, *after])
    image = padded(state, Leaf(state.tensor(image)), *margins, "constant", Fill(0, "int32"))
    state.define(
        node.outputs[0], convolution_sums(state, image, weights, groups, strides, dilations, shape[2:])
    )


def _zero_point(state: Lowering, node: ir.Node, position: int, after: int) -> Lazy | None:
    """One value, or one for each output channel with `after` axes behind it."""
    if len(node.inputs) <= position or node.inputs[position] is None:
        return None
    zero = source_of(state, node, position)
    if zero.shape in ((), (1,)):
        return reshaped(state, zero, ())
    return reshaped(state, zero, (*zero.shape, *([1] * after)))


def _pads(
    node: ir.Node,
    sizes: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[list[int], list[int]]:
    """Pixels before and after each axis, with auto_pad worked out; enough for the last window."""
    space = len(sizes)
    auto = text(node, "auto_pad", "NOTSET")
    given = integers(node, "pads", (0,) * (2 * space)) if auto in ("NOTSET", "") else (0,) * (2 * space)
    before, after = list(given[:space]), list(given[space:])
    for a in range(space):
        reach = (out[a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, reach - sizes[a])
            before[a] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after[a] = total - before[a]
        elif reach > sizes[a] + before[a] + after[a]:
            require_equal(node, "sizes", out, sizes)
    return before, after
