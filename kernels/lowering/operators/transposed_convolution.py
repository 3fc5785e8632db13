"""ConvTranspose: a convolution of the input with zeros between its elements and the weights turned around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.arithmetic import maximum, minimum
from ...cpu.builder import constant, int32
from ...cpu.lazy import Lazy, Leaf
from ...cpu.window import Window
from ...dims import Size, is_fixed
from ..any_size.transposed_convolution import any_transposed_convolution, transposed_sizes
from ..attributes import describe, integer, integers, text
from ..registry import lowers
from ..state import Lowering, static_shape
from ..variants import is_wide
from .convolution import convolved
from .movement import reshaped, source_of


@lowers("ConvTranspose", takes=is_wide)
def lower_transposed_convolution(state: Lowering, node: ir.Node) -> None:
    """One- and two-dimensional, float32, with groups, and constant weights (C, M / groups, …)."""
    weights = state.constant(node.inputs[1])
    if weights is None or weights.dtype != np.float32:
        raise UnsupportedError("the weight must be a float32 constant", where=describe(node))
    source = source_of(state, node)
    if not is_fixed(*source.shape[1:]):
        any_transposed_convolution(state, node, source, weights)
        return
    if weights.ndim not in (3, 4):
        raise UnsupportedError("only 1-D and 2-D", where=describe(node), got=f"{weights.ndim - 2}-D")
    shape = _shape(node, source, weights)
    axes = _axes(node, source.shape[2:], shape[2:], weights.shape[2:])
    if weights.ndim == 3:
        source = reshaped(state, source, (*source.shape[:2], 1, source.shape[2]))
        weights = weights[:, :, None, :]
        axes = [_Axis(1, 1, 1, 1, 1, 0), *axes]
    turned = _turned(weights, integer(node, "group", 1))
    pads = [(a.before, a.after) for a in axes]
    fits = all(n >= 0 for pair in pads for n in pair)
    spread = _spread(state, source, axes, within=not fits)
    window = Window(
        (spread.shape[2], spread.shape[3]),
        (axes[0].new, axes[1].new),
        (axes[0].kernel, axes[1].kernel),
        dilations=(axes[0].dilation, axes[1].dilation),
        pads=(pads[0][0], pads[1][0], pads[0][1], pads[1][1]) if fits else (0, 0, 0, 0),
    )
    image = state.tensor(spread, node.name or "conv_in")
    out = convolved(state, node, image, turned, window, (*shape[:2], axes[0].new, axes[1].new))
    state.define(node.outputs[0], reshaped(state, Leaf(out), shape))


def _shape(node: ir.Node, source: Lazy, weights: np.ndarray) -> tuple[Size, ...]:
    """What is declared; what follows from the input where its batch is known at run time."""
    if is_fixed(*source.shape):
        return static_shape(node.outputs[0], describe(node))
    channels = weights.shape[1] * integer(node, "group", 1)
    return (source.shape[0], channels, *transposed_sizes(node, source.shape[2:], weights.shape[2:]))


@dataclass(frozen=True)
class _Axis:
    """One spatial axis: extents, and elements cut off (`pad`) before the first output."""

    old: int
    new: int
    kernel: int
    stride: int
    dilation: int
    pad: int

    @property
    def span(self) -> int:
        """Extent of the input with zeros between its elements."""
        return (self.old - 1) * self.stride + 1

    @property
    def before(self) -> int:
        """Zeros ahead of the input (negative: elements no output sees)."""
        return (self.kernel - 1) * self.dilation - self.pad

    @property
    def after(self) -> int:
        """Zeros behind it."""
        return self.new + (self.kernel - 1) * self.dilation - self.before - self.span


def _axes(node: ir.Node, old: tuple[int, ...], new: tuple[int, ...], kernel: tuple[int, ...]) -> list[_Axis]:
    rank = len(old)
    strides = integers(node, "strides", (1,) * rank)
    dilations = integers(node, "dilations", (1,) * rank)
    extra = integers(node, "output_padding", (0,) * rank)
    pads = list(integers(node, "pads", (0,) * (2 * rank)))[:rank]
    auto = text(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER") or "output_shape" in node.attributes:
        for a in range(rank):
            full = (old[a] - 1) * strides[a] + extra[a] + (kernel[a] - 1) * dilations[a] + 1
            total = max(0, full - new[a])
            pads[a] = total // 2 if auto == "SAME_UPPER" else total - total // 2
    return [_Axis(*v) for v in zip(old, new, kernel, strides, dilations, pads, strict=True)]


def _turned(weights: np.ndarray, groups: int) -> np.ndarray:
    """(C, M / g, kh, kw) as a convolution's (M, C / g, kh, kw), both spatial axes reversed."""
    c, m, kh, kw = weights.shape
    split = weights.reshape(groups, c // groups, m, kh, kw).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(split.reshape(groups * m, c // groups, kh, kw)[:, :, ::-1, ::-1])


def _spread(state: Lowering, source: Lazy, axes: list[_Axis], *, within: bool) -> Lazy:
    """The input with `stride - 1` zeros between elements; margins and cuts too if `within`."""
    if not within and all(a.stride == 1 for a in axes):
        return source
    starts = [a.before if within else 0 for a in axes]
    extents = [a.new + (a.kernel - 1) * a.dilation if within else a.span for a in axes]

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place, conditions = list(index[:2]), []
        for axis, start, at in zip(axes, starts, index[2:], strict=True):
            moved = at - start
            inside = tir.And(moved >= 0, moved < axis.span)
            moved = minimum(maximum(moved, int32(0)), int32(axis.span - 1))
            conditions.append(tir.And(inside, tir.EQ(tir.truncmod(moved, int32(axis.stride)), int32(0))))
            place.append(tir.truncdiv(moved, int32(axis.stride)))
        value = sources[0].at(scope, place)
        return tir.Select(tir.And(*conditions), value, constant(0, source.dtype))

    label = ("spread", tuple(axes), within)
    return state.moved([source], (*source.shape[:2], *extents), pick, *label, conditional=True)
