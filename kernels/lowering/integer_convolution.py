"""Convolutions of int8 or uint8 images with int8 weights, in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..cpu.integer_product import Reach
from ..cpu.lazy import Leaf
from ..cpu.pixel_layout import pixel_pitch, pixel_strides
from ..cpu.pixel_padding import PadPixels
from ..cpu.tensor import Tensor, contiguous
from ..cpu.window import Window
from ..dims import is_fixed
from .any_size.windows import convolved_shape
from .attributes import integer, require_equal
from .fusion import grow_epilogue
from .integer_depthwise import integer_depthwise, is_depthwise
from .integer_layer import IntegerLayer, append_product, integer_layer
from .joined_groups import joined_groups
from .pixel_major import pixel_major, read_with_channels
from .report import report_layer
from .state import Lowering
from .windows import window_of

__all__ = ["flat_reach", "integer_convolution", "padded_image", "reach_of"]

Array = np.ndarray[Any, np.dtype[Any]]


def integer_convolution(state: Lowering, node: ir.Node) -> bool:
    """Lowers a Conv of dequantised operands; False where it is none, or none that is computed in integers."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and state.constant(bias) is None:
        return False
    layer = integer_layer(state, node, 0, bias)
    if layer is None:
        return False
    groups, axes = integer(node, "group", 1), layer.weights.ndim - 2
    if not is_fixed(*state.lazy(layer.x.integers).shape[1:]):
        state.float_reasons[layer.x.node] = "the size of the image is known at run time"
        return False
    if axes not in (1, 2) or (axes == 1 and is_depthwise(layer, groups)):
        kind = "depthwise convolution" if axes == 1 else "convolution"
        state.float_reasons[layer.x.node] = f"no {kind} of {axes} dimensions in integers"
        return False
    if is_depthwise(layer, groups):
        integer_depthwise(state, layer)
    else:
        _lower(state, layer, groups)
    return True


def _lower(state: Lowering, layer: IntegerLayer, groups: int) -> None:
    node = layer.node
    shape = convolved_shape(state, node, layer.weights.shape[2:], len(layer.weights))
    source, weights = _image(state, layer), _with_height(layer.weights)
    require_equal(node, "input channels", source.shape[1], weights.shape[1] * groups)
    require_equal(node, "batch sizes", source.shape[0], shape[0])
    require_equal(node, "output channels", (len(weights), 0), (shape[1], len(weights) % groups))
    full = (*shape[:2], *(1,) * (4 - len(shape)), *shape[2:])
    window = window_of(node, source.shape[2:], full[2:], weights.shape[2:])
    image, _, row, pixel = pixel_strides(full)
    strides = (image, 1, row, pixel) if len(shape) == 4 else (image, 1, pixel)
    epilogue = grow_epilogue(state, node.outputs[0], shape, lambda t: _fits(t, shape), strides=strides)
    dtype = epilogue.tree.dtype
    out = state.new_tensor(epilogue.value.name or "conv", dtype, shape, strides)
    weights, groups = joined_groups(weights, groups, state.isa.lanes)
    room = pixel_pitch(shape[1]) if groups == 1 else shape[1] // groups
    padded = padded_image(state, source, window, layer.zero_point)
    reach, matrix = reach_of(padded, window, weights, groups)
    steps = (image, row, pixel)
    if window.taps == 1 and window.strides == (1, 1):
        reach, steps = flat_reach(reach, steps, window)
    choice = append_product(state, layer, padded, reach, matrix, out, steps, room, epilogue)
    layer.take(state, epilogue)
    state.absorbed.update(epilogue.nodes)
    report_layer(state, node, layer.weights, out, choice, epilogue)
    state.define(epilogue.value, Leaf(out if dtype != "float32" else state.copy(out)))


def _image(state: Lowering, layer: IntegerLayer) -> Tensor:
    """What is convolved, pixel-major; a line (N, C, W) as an image of height 1."""
    value, name = state.lazy(layer.x.integers), layer.node.name or "image"
    if len(value.shape) == 4:
        return pixel_major(state, value, name)
    require_equal(layer.node, "axes", 3, len(value.shape))
    n, channels, width = value.shape
    shape = (n, channels, 1, width)
    strides = pixel_strides(shape)
    lies = isinstance(value, Leaf) and value.tensor.strides == (strides[0], 1, strides[3])
    if isinstance(value, Leaf) and lies and value.tensor.place == "arena":
        return value.tensor.view(shape, strides)
    whole = state.dense(value, name)
    return pixel_major(state, Leaf(whole.view(shape, contiguous(shape))), name)


def _with_height(weights: Array) -> Array:
    """(M, C / groups, kw) as (M, C / groups, 1, kw)."""
    return weights if weights.ndim == 4 else weights[:, :, None]


def _fits(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    return read_with_channels(tensor, shape) if len(shape) == 4 else tensor.size == 1


def padded_image(state: Lowering, source: Tensor, window: Window, fill: int | Tensor) -> Tensor:
    """The image with a margin of zero points where windows reach over its border."""
    if not any(window.pads):
        return source
    n, c, height, width = source.shape
    top, left, bottom, right = window.pads
    shape = (n, c, top + height + bottom, left + width + right)
    out = state.new_tensor(f"{source.name}.padded", source.dtype, shape, pixel_strides(shape))
    state.steps.append(PadPixels(source, out, (height, width), window.pads, fill))
    return out


def reach_of(source: Tensor, window: Window, weights: Array, groups: int) -> tuple[Reach, Array]:
    """What a pixel reads of a padded image, and the weights (groups, outputs, taps, run) for it."""
    image, _, row, pixel = source.strides
    high, wide = window.kernel
    (down, right), (apart, beside) = window.strides, window.dilations
    outputs, channels = weights.shape[:2]
    pixels = (source.shape[0], *window.out_size)
    steps = (image, row * down, pixel * right)
    by_tap = weights.reshape(groups, outputs // groups, channels, high, wide).transpose(0, 1, 3, 4, 2)
    if beside == 1 and wide > 1 and pixel - channels < 4 and groups == 1:  # rows of taps are one run
        run = np.zeros((*by_tap.shape[:4], pixel), by_tap.dtype)
        run[..., :channels] = by_tap
        matrix = run.reshape(groups, outputs // groups, high, wide * pixel)
        return Reach(pixels, steps, ((high, row * apart),), wide * pixel), matrix
    taps = ((high, row * apart), (wide, pixel * beside))
    matrix = by_tap.reshape(groups, outputs // groups, high * wide, channels)
    return Reach(pixels, steps, taps, channels, groups, channels), matrix


def flat_reach(
    reach: Reach, steps: tuple[int, int, int], window: Window
) -> tuple[Reach, tuple[int, int, int]]:
    """All pixels of all images as one column of pixels, for a window of one pixel."""
    rows = reach.pixels[0] * window.pixels
    flat = Reach((1, rows, 1), (0, reach.steps[2], 0), reach.taps, reach.run, reach.groups, reach.group)
    return flat, (0, steps[2], 0)
