"""ConvTranspose of images whose size is known only at run time: zeros between pixels, then a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from ...cpu.any_window import AnyWindow
from ...cpu.arithmetic import maximum, minimum
from ...cpu.builder import constant, int32
from ...cpu.lazy import Lazy
from ...dims import Size, larger
from ..attributes import describe, integer, integers, text
from ..state import Lowering
from .convolution import convolve

__all__ = ["any_transposed_convolution", "transposed_sizes"]


@dataclass(frozen=True)
class _Axis:
    """One axis: extents, and zeros ahead of the first pixel (negative: pixels that no output sees)."""

    old: Size
    new: Size
    stride: int
    before: Size


def any_transposed_convolution(state: Lowering, node: ir.Node, source: Lazy, weights: np.ndarray) -> None:
    """`source` (N, C, …) · `weights` (C, M / groups, …), and the elementwise nodes behind it."""
    space, kernel = source.shape[2:], weights.shape[2:]
    rank = len(space)
    strides, dilations = (integers(node, name, (1,) * rank) for name in ("strides", "dilations"))
    sizes = transposed_sizes(node, space, kernel)
    for size in sizes:
        state.sizes.limit(1, size, f"{describe(node)} has no pixel")
    cut = _cut(node, space, sizes, kernel)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    axes = [_Axis(n, m, s, r - c) for n, m, s, r, c in zip(space, sizes, strides, reach, cut, strict=True)]
    extents = [m + r for m, r in zip(sizes, reach, strict=True)]
    image = state.tensor(_spread(state, source, axes, extents), node.name or "conv_in")
    window = AnyWindow(tuple(extents), sizes, tuple(kernel), (1,) * rank, dilations, (0,) * rank)
    convolve(state, node, image, _turned(weights, integer(node, "group", 1)), window)


def transposed_sizes(node: ir.Node, space: Sequence[Size], kernel: Sequence[int]) -> tuple[Size, ...]:
    """Extents of the result."""
    rank = len(space)
    if "output_shape" in node.attributes:
        return tuple(integers(node, "output_shape", ())[-rank:])
    strides = integers(node, "strides", (1,) * rank)
    pads = integers(node, "pads", (0,) * (2 * rank))
    auto = text(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(n * s for n, s in zip(space, strides, strict=True))
    if auto == "VALID":
        pads = (0,) * (2 * rank)
    full = _full(node, space, kernel)
    return tuple(n - pads[a] - pads[rank + a] for a, n in enumerate(full))


def _full(node: ir.Node, space: Sequence[Size], kernel: Sequence[int]) -> tuple[Size, ...]:
    """Extents before anything is cut off."""
    rank = len(space)
    strides, dilations = (integers(node, name, (1,) * rank) for name in ("strides", "dilations"))
    extra = integers(node, "output_padding", (0,) * rank)
    axes = zip(space, strides, extra, kernel, dilations, strict=True)
    return tuple((n - 1) * s + e + (k - 1) * d + 1 for n, s, e, k, d in axes)


def _cut(
    node: ir.Node, space: Sequence[Size], sizes: Sequence[Size], kernel: Sequence[int]
) -> tuple[Size, ...]:
    """Elements cut off before the first output."""
    rank = len(space)
    auto = text(node, "auto_pad", "NOTSET")
    if auto not in ("SAME_UPPER", "SAME_LOWER") and "output_shape" not in node.attributes:
        return integers(node, "pads", (0,) * (2 * rank))[:rank] if auto != "VALID" else (0,) * rank
    found = []
    for full, size in zip(_full(node, space, kernel), sizes, strict=True):
        total = larger(full - size, 0)
        found.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    return tuple(found)


def _turned(weights: np.ndarray, groups: int) -> np.ndarray:
    """(C, M / g, …) as a convolution's (M, C / g, …), all axes behind reversed."""
    c, m, *kernel = weights.shape
    split = weights.reshape(groups, c // groups, m, *kernel).swapaxes(1, 2)
    whole = split.reshape(groups * m, c // groups, *kernel)
    return np.ascontiguousarray(np.flip(whole, tuple(range(2, whole.ndim))))


def _spread(state: Lowering, source: Lazy, axes: list[_Axis], extents: Sequence[Size]) -> Lazy:
    """The input with `stride - 1` zeros between elements, and margins."""

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place, inside = list(index[:2]), tir.const(True, "bool")
        for axis, at in zip(axes, index[2:], strict=True):
            last = int32((axis.old - 1) * axis.stride)
            moved = at - axis.before
            inside = tir.And(inside, tir.And(moved >= 0, moved <= last))
            moved = minimum(maximum(moved, int32(0)), last)
            inside = tir.And(inside, tir.EQ(tir.truncmod(moved, int32(axis.stride)), int32(0)))
            place.append(tir.truncdiv(moved, int32(axis.stride)))
        return tir.Select(inside, sources[0].at(scope, place), constant(0, source.dtype))

    shape = (*source.shape[:2], *extents)
    return state.moved([source], shape, pick, "any-spread", tuple(axes), conditional=True)
