"""Convolutions of integers whose scale and zero point are known only at run time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..cpu.depthwise import Depthwise
from ..cpu.epilogue import Accumulator
from ..cpu.lazy import Fill, Lazy, Leaf
from ..cpu.pixel_layout import pixel_pitch, pixel_strides
from ..cpu.sweep import readable
from ..cpu.tensor import Tensor
from ..cpu.window import Window
from .attributes import describe, integer, require_equal
from .exact_sums import whole_numbers
from .halved_weights import panels_of
from .integer_convolution import flat_reach, padded_image, reach_of
from .integer_dynamic import append_dynamic, scaled_sums
from .pixel_major import pixel_major, read_with_channels
from .scopes import read_elsewhere
from .state import Lowering, filled_shape
from .windows import window_of

__all__ = ["dynamic_convolution"]

Array = np.ndarray[Any, np.dtype[Any]]
_EXACT = 2**24  # integers below it are exact in float32


def dynamic_convolution(
    state: Lowering, node: ir.Node, image: Lazy, weights: Array, zero_point: Lazy | None
) -> bool:
    """ConvInteger of an image and constant `weights`, less their zero points; False for what is too rare.

    `zero_point` is a single value.
    """
    shape = filled_shape(node.outputs[0], describe(node))
    groups = integer(node, "group", 1)
    if weights.ndim != 4 or (zero_point is not None and zero_point.shape != ()):
        return False
    require_equal(node, "input channels", image.shape[1], weights.shape[1] * groups)
    require_equal(node, "batch sizes", image.shape[0], shape[0])
    require_equal(node, "output channels", (len(weights), 0), (shape[1], len(weights) % groups))
    window = window_of(node, image.shape[2:], shape[2:], weights.shape[2:])
    if groups > 1 and weights.shape[1] == 1:
        return groups == len(weights) and _depthwise(state, node, image, weights, zero_point, window)
    source = pixel_major(state, image, node.name or "image")
    padded = padded_image(state, source, window, _fill(state, zero_point))
    reach, matrix = reach_of(padded, window, weights, groups)
    strides = pixel_strides(shape)
    steps = (strides[0], strides[2], strides[3])
    if window.taps == 1 and window.strides == (1, 1):
        reach, steps = flat_reach(reach, steps, window)
    room = pixel_pitch(shape[1]) if groups == 1 else shape[1] // groups
    sums = scaled_sums(state, node.outputs[0], len(weights), 2)
    out, value = append_dynamic(
        state,
        node,
        panels_of(state.isa, image.dtype, reach, matrix),
        padded,
        zero_point,
        sums,
        (shape, strides, steps, room),
        lambda tensor: read_with_channels(tensor, shape),
        weights,
    )
    whole = out.dtype in ("int8", "uint8")
    state.define(value, Leaf(out if whole else state.copy(out)))
    return True


def _fill(state: Lowering, zero_point: Lazy | None) -> int | Tensor:
    if zero_point is None:
        return 0
    return int(zero_point.value) if isinstance(zero_point, Fill) else state.tensor(zero_point)


def _depthwise(
    state: Lowering, node: ir.Node, image: Lazy, weights: Array, zero_point: Lazy | None, window: Window
) -> bool:
    """In float32, where sums are exact: a pass over the image gives it less its zero point."""
    sums, shape = node.outputs[0], filled_shape(node.outputs[0], describe(node))
    casts = [use.node for use in sums.uses()]
    most = int(np.abs(weights).reshape(len(weights), -1).sum(axis=1).max()) * 255
    if most >= _EXACT or read_elsewhere(sums) or [c.op_type for c in casts] != ["Cast"]:
        return False
    if integer(casts[0], "to", 0) != ir.DataType.FLOAT:
        return False
    wide = state.elementwise("Cast", [whole_numbers(state, image, zero_point)], "float32")
    source = state.tensor(wide, node.name or "image")
    source = source if readable(source, window, state.isa.lanes) else state.copy(source)
    plane = -(-(shape[2] * shape[3]) // state.isa.lanes) * state.isa.lanes
    out = state.new_tensor(node.name or "conv", "float32", shape, (shape[1] * plane, plane, shape[3], 1))
    taps = state.pool.add(
        f"{node.name}.weight", weights.reshape(len(weights), -1).astype(np.float32), "depthwise"
    )
    state.steps.append(Depthwise(source, taps, None, out, window, Accumulator(shape)))
    state.absorbed.add(casts[0])
    state.define(casts[0].outputs[0], Leaf(out))
    return True
