"""Sizes of what a sliding window gives, from the sizes of what it reads."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gossamer.runtime.errors import ModelError

from ...dims import Size, is_fixed, larger, smaller
from ..attributes import describe, flag, integers, text
from ..state import Lowering, filled_shape

__all__ = ["convolved_shape", "pooled_shape", "window_pads", "window_sizes"]


def convolved_shape(
    state: Lowering, node: ir.Node, kernel: Sequence[int], channels: Size
) -> tuple[Size, ...]:
    """(N, `channels`, …) of a Conv with a window of `kernel`, checked for emptiness where it is known."""
    out, image = node.outputs[0], node.inputs[0]
    assert image is not None
    if out.shape is not None and out.shape.is_static():
        return filled_shape(out, describe(node))
    batch, _, *space = state.lazy(image).shape
    return (batch, channels, *window_sizes(node, space, kernel))


def pooled_shape(node: ir.Node, shape: Sequence[Size], kernel: Sequence[int]) -> tuple[Size, ...]:
    """Of what pooling gives; ONNX's inference counts windows that begin in the padding behind an image."""
    out, sizes = node.outputs[0], window_sizes(node, shape[2:], kernel)
    if not is_fixed(*shape, *sizes):
        return (*shape[:2], *sizes)
    if any(size < 1 for size in sizes):
        raise ModelError("a window is larger than its image", where=describe(node), got=list(shape[2:]))
    out.shape = ir.Shape((*shape[:2], *sizes))
    return (*shape[:2], *sizes)


def window_sizes(node: ir.Node, space: Sequence[Size], kernel: Sequence[int]) -> tuple[Size, ...]:
    """Windows along each axis: those that fit, or (`ceil_mode`) begin inside or before."""
    rank = len(space)
    strides = integers(node, "strides", (1,) * rank)
    dilations = integers(node, "dilations", (1,) * rank)
    auto = text(node, "auto_pad", "NOTSET")
    pads = integers(node, "pads", (0,) * (2 * rank)) if auto in ("NOTSET", "") else (0,) * (2 * rank)
    sizes = []
    for axis, n in enumerate(space):
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            sizes.append((n + strides[axis] - 1) // strides[axis])
            continue
        free = n + pads[axis] + pads[rank + axis] - (kernel[axis] - 1) * dilations[axis] - 1
        count = free // strides[axis] + 1
        if flag(node, "ceil_mode"):
            more = (free + strides[axis] - 1) // strides[axis] + 1
            # the last window must begin inside the image or the padding before it
            begins = (n + pads[axis] - 1) // strides[axis] + 1
            count = larger(count, smaller(more, begins))
        sizes.append(count)
    return tuple(sizes)


def window_pads(
    node: ir.Node, space: Sequence[Size], sizes: Sequence[Size], kernel: Sequence[int]
) -> tuple[Size, ...]:
    """Rows, columns, … before each axis, as `pads` or `auto_pad` say."""
    rank = len(space)
    auto = text(node, "auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return tuple(integers(node, "pads", (0,) * (2 * rank))[:rank])
    if auto == "VALID":
        return (0,) * rank
    strides = integers(node, "strides", (1,) * rank)
    dilations = integers(node, "dilations", (1,) * rank)
    before = []
    for axis, n in enumerate(space):
        reach = (sizes[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = larger(reach - n, 0)
        before.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    return tuple(before)
