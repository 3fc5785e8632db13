"""Depthwise convolutions of int8 or uint8 images, in integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cpu.depthwise_plan import DepthwisePlan
from ..cpu.integer_depthwise import IntegerDepthwise
from ..cpu.lazy import Lazy, Leaf, leaves
from ..cpu.pixel_layout import pixel_pitch, pixel_strides
from ..cpu.tap_dot import tap_dot
from ..cpu.tensor import Tensor
from ..cpu.window import Window
from .any_size.windows import convolved_shape
from .attributes import require_equal
from .choice import Choice
from .fusion import grow_epilogue
from .integer_layer import IntegerLayer
from .integer_tree import Sums, finish_of
from .pixel_major import pixel_major, read_with_channels
from .report import report_layer
from .state import Lowering
from .windows import window_of

__all__ = ["integer_depthwise", "is_depthwise"]

Array = np.ndarray[Any, np.dtype[Any]]


def is_depthwise(layer: IntegerLayer, groups: int) -> bool:
    """Whether there is a kernel for it: one output per channel, pixels of whole vectors."""
    outputs, inputs = layer.weights.shape[:2]
    return groups == outputs and inputs == 1 and pixel_pitch(groups) >= 16


def integer_depthwise(state: Lowering, layer: IntegerLayer) -> None:
    """Appends the kernel, with what follows up to the next integers."""
    node, channels = layer.node, len(layer.weights)
    name = node.name or "depthwise"
    shape = convolved_shape(state, node, layer.weights.shape[2:], channels)
    source = pixel_major(state, state.lazy(layer.x.integers), name)
    require_equal(node, "channels", (source.shape[1], shape[1]), (channels, channels))
    require_equal(node, "batch sizes", source.shape[0], shape[0])
    window = window_of(node, source.shape[2:], shape[2:], layer.weights.shape[2:])
    strides = pixel_strides(shape)
    epilogue = grow_epilogue(
        state, node.outputs[0], shape, lambda t: read_with_channels(t, shape), strides=strides
    )
    tree = epilogue.tree
    out = state.new_tensor(epilogue.value.name or "conv", tree.dtype, shape, strides)
    choice = _append(state, layer, name, source, out, window, tree)
    layer.take(state, epilogue)
    state.absorbed.update(epilogue.nodes)
    report_layer(state, node, layer.weights, out, choice, epilogue)
    state.define(epilogue.value, Leaf(state.copy(out) if tree.dtype == "float32" else out))


def _append(
    state: Lowering, layer: IntegerLayer, name: str, source: Tensor, out: Tensor, window: Window, tree: Lazy
) -> Choice:
    weights = layer.weights.reshape(-1, *window.kernel)
    span = (int(weights.min()), int(weights.max()))
    dot = tap_dot(state.isa, layer.x.dtype, span, pixel_pitch(len(weights)))
    plan = DepthwisePlan.best(window, dot)
    shuffled = tree.dtype != "float32" and not leaves(tree)
    row = plan.ordered if shuffled else plan.spread
    total = weights.reshape(len(weights), -1).astype(np.int64).sum(axis=1)
    bias = plan.ordered(layer.bias - dot.zero_point(layer.zero_point) * total).astype(np.int32)
    most = np.abs(weights).reshape(len(weights), -1).sum(axis=1) * 255.0 + np.abs(layer.bias)
    finish = finish_of(state, name, tree, Sums(layer.scale, layer.addend, most), row)
    packed = state.pool.add(f"{name}.weight", plan.pack(weights), f"{dot.name} taps of {plan.rows} rows")
    kernel = IntegerDepthwise(
        source,
        packed,
        state.pool.add(f"{name}.bias", bias),
        out,
        plan,
        layer.zero_point,
        finish,
        shuffled,
    )
    state.steps.append(kernel)
    label = f"{plan.rows}x{plan.tile_columns}x{dot.unit}"
    reason = f"one input channel per output, {dot.name}, {dot.depth} rows a lane"
    return Choice("integer-depthwise", 0, label, reason, format=layer.w.dtype)
