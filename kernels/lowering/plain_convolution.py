"""A convolution of any two values as a sum of products: simple, not fast, for what no other kernel takes."""

from __future__ import annotations

import onnx_ir as ir

from ..cpu.lazy import Fill, Lazy, Leaf
from .attributes import integer, integers, require_equal, text
from .exact_sums import convolution_sums
from .operators.movement import padded
from .state import Lowering

__all__ = ["plain_convolution"]


def plain_convolution(
    state: Lowering, node: ir.Node, image: Lazy, weights: Lazy, shape: tuple[int, ...]
) -> Lazy:
    """(N, C, ...) and (M, C / groups, ...) of one type, int32 or float32, on any number of spatial axes."""
    groups, space = integer(node, "group", 1), len(shape) - 2
    require_equal(node, "input channels", image.shape[1], weights.shape[1] * groups)
    require_equal(node, "output channels", (shape[1], 0), (weights.shape[0], weights.shape[0] % groups))
    strides = integers(node, "strides", (1,) * space)
    dilations = integers(node, "dilations", (1,) * space)
    before, after = _pads(node, image.shape[2:], shape[2:], weights.shape[2:], strides, dilations)
    margins = ([0, 0, *before], [0, 0, *after])
    zero = Fill(0.0 if image.dtype == "float32" else 0, image.dtype)
    image = padded(state, Leaf(state.tensor(image)), *margins, "constant", zero)
    return convolution_sums(state, image, weights, groups, strides, dilations, shape[2:])


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
