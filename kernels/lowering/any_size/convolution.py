"""Conv of images whose size is known only at run time, on any number of axes, with constant weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...cpu.any_convolution import AnyConvolution, pixel_span
from ...cpu.any_window import AnyPlanes, AnyWindow
from ...cpu.lazy import Leaf
from ...cpu.pixel_tile import best_pixel_tile
from ...cpu.tensor import Tensor
from ...dims import Size
from ..attributes import describe, integer, integers, require_equal
from ..choice import Choice
from ..fusion import grow_epilogue
from ..packing import pack_rows
from ..report import report_layer
from ..state import Lowering
from .windows import window_pads, window_sizes

__all__ = ["any_convolution", "convolve"]

_MANY_PIXELS = 1 << 12  # for which the tile is chosen


def any_convolution(state: Lowering, node: ir.Node, source: Tensor, weights: np.ndarray) -> None:
    """`source` (N, C, …) · `weights` (M, C / groups, …), and the elementwise nodes behind it."""
    require_equal(node, "output channels", 0, len(weights) % integer(node, "group", 1))
    convolve(state, node, source, weights, _window(state, node, source, weights.shape[2:]))


def convolve(state: Lowering, node: ir.Node, source: Tensor, weights: np.ndarray, window: AnyWindow) -> None:
    """The node's groups and bias with given weights (M, C / groups, …) and window."""
    groups, where = integer(node, "group", 1), describe(node)
    channels = state.sizes.equal(source.shape[1], weights.shape[1] * groups, f"channels of {where}")
    planes, strides, pitches = _planes(state, node, source, window)
    shape = (source.shape[0], len(weights), *window.out_size)
    layout = _layout(shape, pitches, state.isa.lanes)
    epilogue = grow_epilogue(state, node.outputs[0], shape, lambda t: _fits(t, shape, layout))
    out = state.new_tensor(epilogue.value.name or "conv", "float32", shape, layout)
    matrix = weights.reshape(groups, len(weights) // groups, -1)
    tile = best_pixel_tile(state.isa, matrix.shape[1], _MANY_PIXELS)
    packed = np.concatenate([pack_rows(group, tile[0]) for group in matrix])
    panels = state.pool.add(f"{node.name}.weight", packed, f"panels of {tile[0]} rows")
    distances = tuple(window.distances())
    bias = _bias(state, node, len(weights))
    state.steps.append(
        AnyConvolution(planes, strides, panels, bias, out, distances, groups, channels, tile, epilogue.tree)
    )
    choice = Choice("gemm", 0, "", "pixels are known at run time").with_tile(tile)
    report_layer(state, node, weights, out, choice, epilogue)
    state.absorbed.update(epilogue.nodes)
    state.define(epilogue.value, Leaf(out))


def _window(state: Lowering, node: ir.Node, source: Tensor, kernel: Sequence[int]) -> AnyWindow:
    space = source.shape[2:]
    require_equal(node, "axes of the weight", len(space), len(kernel))
    sizes = window_sizes(node, space, kernel)
    for size in sizes:
        state.sizes.limit(1, size, f"{describe(node)} has no pixel")
    strides, dilations = (integers(node, name, (1,) * len(space)) for name in ("strides", "dilations"))
    before = window_pads(node, space, sizes, kernel)
    return AnyWindow(space, sizes, tuple(kernel), strides, dilations, before)


def _planes(
    state: Lowering, node: ir.Node, source: Tensor, window: AnyWindow
) -> tuple[Tensor, tuple[Size, Size], tuple[Size, ...]]:
    """(memory, distances of images and planes, distances of pixels): in place where a pixel reads itself."""
    itself = window.taps == 1 and set(window.strides) == {1} and window.in_size == window.out_size
    if itself and source.strides[-1] == 1 and source.root.place == "arena":
        return source, (source.strides[0], source.strides[1]), source.strides[2:]
    count = source.shape[0] * source.shape[1]
    out = state.new_tensor(f"{node.name}.planes", "float32", (count, window.plane))
    state.steps.append(AnyPlanes(source, out, window))
    return out, (source.shape[1] * window.plane, window.plane), window.pitches


def _layout(shape: tuple[Size, ...], pitches: tuple[Size, ...], lanes: int) -> tuple[Size, ...]:
    """Strides of a result whose planes are whole vectors."""
    plane = (pixel_span(shape[2:], pitches) + (lanes - 1)) // lanes * lanes
    return (shape[1] * plane, plane, *pitches)


def _fits(tensor: Tensor, shape: tuple[Size, ...], strides: tuple[Size, ...]) -> bool:
    """Operands a tile can read: one value, one per channel, or a result that lies alike."""
    if tensor.size == 1:
        return True
    if tensor.shape == shape:
        return tensor.strides == strides
    rank, space = len(tensor.shape), len(shape) - 2
    ones = tensor.shape[rank - space :] == (1,) * space
    return (
        ones and rank in (space + 1, space + 2) and tensor.size == tensor.shape[rank - space - 1] == shape[1]
    )


def _bias(state: Lowering, node: ir.Node, outputs: int) -> Tensor | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = None if value is None else state.stored(value)
    if bias is not None:
        require_equal(node, "biases", (outputs,), bias.shape)
    return bias
