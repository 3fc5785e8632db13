"""Pools of quantised images, in integers."""

from __future__ import annotations

import onnx_ir as ir

from ..cpu.epilogue import Accumulator
from ..cpu.lazy import Lazy, Leaf
from ..cpu.pixel_layout import IMAGE_TYPES
from ..cpu.pixel_pooling import MOST_TAPS, Mean, PixelPooling
from ..cpu.window import Window
from .attributes import flag
from .integer_tree import rounding_of
from .pixel_major import pixel_major, pixel_major_tensor
from .quantized import quantized_of
from .rounding_behind import rounding_behind
from .state import Lowering

__all__ = ["integer_average", "integer_maximum"]


def integer_maximum(
    state: Lowering, node: ir.Node, value: Lazy, window: Window, shape: tuple[int, ...]
) -> Lazy | None:
    """MaxPool of integers; None where the image is of floats, or empty."""
    if value.dtype not in IMAGE_TYPES or 0 in (*value.shape, *shape):
        return None
    source = pixel_major(state, value, node.name or "image")
    out = pixel_major_tensor(state, node.name or "pool", value.dtype, shape)
    state.steps.append(PixelPooling(source, out, window, None))
    return Leaf(out)


def integer_average(state: Lowering, node: ir.Node, window: Window, shape: tuple[int, ...]) -> bool:
    """AveragePool between a DequantizeLinear and the only QuantizeLinear that reads it; False for another."""
    quantized = quantized_of(state, node.inputs[0])
    if quantized is None or not quantized.per_tensor or quantized.dtype not in IMAGE_TYPES:
        return False
    behind = rounding_behind(state, node.outputs[0])
    if behind is None or window.taps >= MOST_TAPS or 0 in shape:
        state.float_reasons[quantized.node] = "a mean that is not rounded at once, or of a large window"
        return False
    rounding = rounding_of(behind.of(Accumulator(shape)))
    assert rounding is not None
    quantized.take(state)
    source = pixel_major(state, state.lazy(quantized.integers), node.name or "image")
    scale, zero = float(quantized.scale.reshape(-1)[0]), int(quantized.zero_point.reshape(-1)[0])
    mean = Mean(scale, zero, flag(node, "count_include_pad"), rounding[0])
    out = pixel_major_tensor(state, node.name or "pool", behind.dtype, shape)
    state.steps.append(PixelPooling(source, out, window, mean))
    behind.absorb(state, Leaf(out))
    return True
