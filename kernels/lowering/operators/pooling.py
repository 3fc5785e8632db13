"""MaxPool and AveragePool as window folds, vectorised along rows."""

from __future__ import annotations

from math import prod
from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from ...cpu.arithmetic import maximum, minimum
from ...cpu.builder import constant, int32
from ...cpu.lazy import Lazy, Leaf
from ...cpu.pooling import Pooling
from ...cpu.reduction import identity
from ...cpu.sweep import readable
from ...cpu.tensor import Tensor
from ...cpu.window import Window
from ...dims import is_fixed
from ..any_size.folded_pooling import folded_pool, largest_places
from ..any_size.pooling import any_pool
from ..any_size.windows import pooled_shape
from ..attributes import flag, integers
from ..integer_pooling import integer_average, integer_maximum
from ..registry import lowers
from ..state import Lowering
from ..variants import is_wide, uses_more_outputs
from ..windows import window_of
from .movement import reshaped, source_of

_MOST_TAPS = 64  # of windows that are written out
_MOST_STRIDE = 4  # of windows read in vectors; more apart, most of what is read would not be used


@lowers("LpPool", takes=is_wide)
def lower_norm_pool(state: Lowering, node: ir.Node) -> None:
    """Norms of windows."""
    state.define(
        node.outputs[0], folded_pool(state, node, source_of(state, node), integers(node, "kernel_shape", ()))
    )


@lowers("MaxPool", "AveragePool", takes=is_wide)
def lower_pool(state: Lowering, node: ir.Node) -> None:
    """Small windows on one or two axes in vectors along rows, others element by element."""
    source = source_of(state, node)
    kernel = integers(node, "kernel_shape", ())
    if uses_more_outputs(node):
        source = Leaf(state.tensor(source))
        pooled = Leaf(state.tensor(folded_pool(state, node, source, kernel)))
        state.define(node.outputs[0], pooled)
        state.define(node.outputs[1], largest_places(state, node, source, pooled, kernel))
        return
    if prod(kernel) > _MOST_TAPS or (len(kernel) > 2 and is_fixed(*source.shape[2:])):
        state.define(node.outputs[0], folded_pool(state, node, source, kernel))
        return
    if not is_fixed(*source.shape[2:]):
        state.define(node.outputs[0], any_pool(state, node, source, kernel))
        return
    shape = pooled_shape(node, source.shape, kernel)
    if len(kernel) == 1:
        image = reshaped(state, source, (*source.shape[:2], 1, source.shape[2]))
        window = window_of(node, (1, source.shape[2]), (1, shape[2]), (1, kernel[0]))
        result = _pool(state, node, image, window, (*shape[:2], 1, shape[2]))
        state.define(node.outputs[0], reshaped(state, result, shape))
        return
    window = window_of(node, source.shape[2:], shape[2:], kernel)
    if node.op_type == "AveragePool" and integer_average(state, node, window, shape):
        return
    state.define(node.outputs[0], _pool(state, node, source, window, shape))


def _pool(state: Lowering, node: ir.Node, source: Lazy, window: Window, shape: tuple[int, ...]) -> Lazy:
    largest = node.op_type == "MaxPool"
    if largest and (found := integer_maximum(state, node, source, window, shape)) is not None:
        return found
    source = Leaf(state.tensor(source, node.name or "pool_in"))
    count_pad = flag(node, "count_include_pad")
    if source.dtype == "float32" and max(window.strides) <= _MOST_STRIDE:
        return _swept(state, node, source.tensor, window, shape, mean=not largest, count_pad=count_pad)
    neutral = identity("max", source.dtype) if largest else 0.0

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        total: Any = None
        for ky in range(window.kernel[0]):
            for kx in range(window.kernel[1]):
                y = index[2] * window.strides[0] + (ky * window.dilations[0] - window.pads[0])
                x = index[3] * window.strides[1] + (kx * window.dilations[1] - window.pads[1])
                value = _inside(sources[0], scope, [*index[:2], y, x], window, neutral)
                combine = maximum if largest else (lambda a, b: a + b)
                value = scope.builder.hold(value)
                total = value if total is None else scope.builder.hold(combine(total, value))
        return total if largest else total / _count(window, index, count_pad, source.dtype)

    label = ("pool", node.op_type, window, count_pad)
    pooled = state.moved([source], shape, pick, *label, conditional=True)
    return Leaf(state.tensor(pooled, node.name or "pool"))


def _swept(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    window: Window,
    shape: tuple[int, ...],
    *,
    mean: bool,
    count_pad: bool,
) -> Lazy:
    """By the kernel that reads planes where they lie."""
    if not readable(source, window, state.isa.lanes):
        source = state.copy(source)
    out = state.new_tensor(node.name or "pool", "float32", shape)
    state.steps.append(Pooling(source, out, window, mean, count_pad))
    return Leaf(out)


def _needs_test(window: Window, axis: int) -> bool:
    reach = (window.out_size[axis] - 1) * window.strides[axis]
    reach += (window.kernel[axis] - 1) * window.dilations[axis] - window.pads[axis]
    return window.pads[axis] > 0 or reach >= window.in_size[axis]


def _inside(source: Lazy, scope: Any, index: list[Any], window: Window, neutral: float) -> Any:
    """The element, or `neutral` outside the plane."""
    place, inside = list(index[:2]), []
    for axis in range(2):
        at = index[2 + axis]
        if _needs_test(window, axis):
            extent = window.in_size[axis]
            inside.append(tir.And(at >= 0, at < extent))
            at = minimum(maximum(at, int32(0)), int32(extent - 1))
        place.append(at)
    value = source.at(scope, place)
    if not inside:
        return value
    condition = inside[0] if len(inside) == 1 else tir.And(*inside)
    return tir.Select(condition, value, constant(neutral, source.dtype))


def _count(window: Window, index: list[Any], count_pad: bool, dtype: str) -> Any:
    """Elements averaged: those inside the plane, or inside its padded form."""
    total: Any = None
    for axis in range(2):
        start = index[2 + axis] * window.strides[axis] - window.pads[axis]
        low = -window.pads[axis] if count_pad else 0
        high = window.in_size[axis] + (window.pads[2 + axis] if count_pad else 0)
        along: Any = None
        for k in range(window.kernel[axis]):
            at = start + k * window.dilations[axis]
            one = tir.Select(tir.And(at >= low, at < high), int32(1), int32(0))
            along = one if along is None else along + one
        total = along if total is None else total * along
    return tir.Cast(dtype, total)
