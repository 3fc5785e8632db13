"""Pooling of planes of any size: every window tests which of its elements there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from ...cpu.arithmetic import maximum, minimum
from ...cpu.builder import constant, int32
from ...cpu.lazy import Lazy, Leaf
from ...cpu.reduction import identity
from ...dims import Size
from ..attributes import flag, integers, text
from ..state import Lowering
from .windows import window_pads, window_sizes

__all__ = ["Windows", "any_pool", "element", "windows_of"]


@dataclass(frozen=True)
class Windows:
    """Windows on every axis behind the channels."""

    space: tuple[Size, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Size, ...]
    after: tuple[Size, ...]

    def places(self, index: Sequence[Any], taps: Sequence[Any]) -> list[Any]:
        """Where an element of the window at `index` lies."""
        axes = zip(index, self.strides, taps, self.dilations, self.before, strict=True)
        return [i * s + (t * d - pad) for i, s, t, d, pad in axes]


def windows_of(
    node: ir.Node, space: Sequence[Size], kernel: Sequence[int]
) -> tuple[Windows, tuple[Size, ...]]:
    """The windows of a pooling node, and how many there are along each axis."""
    rank = len(kernel)
    sizes = window_sizes(node, space, kernel)
    before = window_pads(node, space, sizes, kernel)
    given = text(node, "auto_pad", "NOTSET") in ("NOTSET", "")
    pads = integers(node, "pads", (0,) * (2 * rank))
    strides, dilations = (integers(node, name, (1,) * rank) for name in ("strides", "dilations"))
    after = pads[rank:] if given else before
    return Windows(tuple(space), tuple(kernel), strides, dilations, before, after), sizes


def any_pool(state: Lowering, node: ir.Node, source: Lazy, kernel: Sequence[int]) -> Lazy:
    """MaxPool or AveragePool with a window of `kernel`, in memory."""
    source = Leaf(state.tensor(source, node.name or "pool_in"))
    windows, sizes = windows_of(node, source.shape[2:], kernel)
    largest, count_pad = node.op_type == "MaxPool", flag(node, "count_include_pad")
    neutral = identity("max", source.dtype) if largest else 0

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        total: Any = None
        for taps in product(*map(range, kernel)):
            value = scope.builder.hold(element(sources[0], scope, index, windows, taps, neutral))
            if total is None:
                total = value
            else:
                total = scope.builder.hold(maximum(total, value) if largest else total + value)
        return total if largest else total / tir.Cast(source.dtype, _count(windows, index[2:], count_pad))

    shape = (*source.shape[:2], *sizes)
    pooled = state.moved(
        [source], shape, pick, "any pool", node.op_type, windows, count_pad, conditional=True
    )
    return Leaf(state.tensor(pooled, node.name or "pool"))


def element(
    source: Lazy, scope: Any, index: list[Any], windows: Windows, taps: Sequence[Any], neutral: float
) -> Any:
    """The element, or `neutral` outside the image."""
    inside: Any = None
    place = list(index[:2])
    for at, extent in zip(windows.places(index[2:], taps), windows.space, strict=True):
        here = tir.And(at >= 0, at < extent)
        inside = here if inside is None else tir.And(inside, here)
        place.append(minimum(maximum(at, int32(0)), int32(extent - 1)))
    return tir.Select(inside, source.at(scope, place), constant(neutral, source.dtype))


def _count(windows: Windows, index: Sequence[Any], count_pad: bool) -> Any:
    """Elements averaged: those inside the image, or inside its padded form."""
    total: Any = None
    for axis, extent in enumerate(windows.space):
        low = -windows.before[axis] if count_pad else 0
        high = extent + windows.after[axis] if count_pad else extent
        start = index[axis] * windows.strides[axis] - windows.before[axis]
        along: Any = None
        for k in range(windows.kernel[axis]):
            at = start + k * windows.dilations[axis]
            one = tir.Select(tir.And(at >= int32(low), at < int32(high)), int32(1), int32(0))
            along = one if along is None else along + one
        total = along if total is None else total * along
    return total
