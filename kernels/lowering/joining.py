"""Concat: parts are written side by side, quantised ones as integers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from ..cpu.lazy import Lazy, Leaf
from ..cpu.pixel_layout import IMAGE_TYPES, channels_last, pixel_strides, reads_by_pixel
from ..dims import Size
from .quantized import Quantized, quantized_of
from .rounding_behind import RoundingBehind, rounding_behind
from .state import Lowering

__all__ = ["integer_concat", "joined"]


def joined(state: Lowering, parts: Sequence[Lazy], axis: int, name: str) -> Lazy:
    """Every part is written to its place in one tensor; images of bytes lie as most of the parts do."""
    shape = list(parts[0].shape)
    for part in parts[1:]:
        for other, size in enumerate(part.shape):
            if other != axis and size != shape[other]:
                shape[other] = state.sizes.equal(size, shape[other], f"Concat {name!r}: sizes differ")
    shape[axis] = sum(p.shape[axis] for p in parts)
    by_pixel = sum(prod(p.shape) for p in parts if _lies_by_pixel(state, p))
    strides = pixel_strides(tuple(shape)) if by_pixel != 0 and 2 * by_pixel > prod(shape) else None
    out = state.new_tensor(name, parts[0].dtype, shape, strides)
    start: Size = 0
    for part in parts:
        if prod(part.shape) != 0:
            state.compute(part, out.view(part.shape, out.strides, start * out.strides[axis]))
        start = start + part.shape[axis]
    return Leaf(out)


def _lies_by_pixel(state: Lowering, part: Lazy) -> bool:
    if part.dtype not in IMAGE_TYPES:
        return False
    return channels_last(part.tensor) if isinstance(part, Leaf) else reads_by_pixel(state.isa, part)


def integer_concat(state: Lowering, node: ir.Node) -> bool:
    """Dequantised parts that are rounded again behind: each is rounded by itself, if its scale is another."""
    sources = [quantized_of(state, value) for value in node.inputs if value is not None]
    parts = [q for q in sources if q is not None and q.per_tensor and q.dtype in IMAGE_TYPES]
    behind = rounding_behind(state, node.outputs[0])
    if behind is None or len(parts) < len(sources):
        return False
    values = [_rounded(state, part, behind) for part in parts]
    axis = node.attributes["axis"].as_int() % len(values[0].shape)
    behind.absorb(state, joined(state, values, axis, node.name or "concat"))
    return True


def _rounded(state: Lowering, part: Quantized, behind: RoundingBehind) -> Lazy:
    integers = state.lazy(part.take(state))
    scale, zero = float(part.scale.reshape(-1)[0]), int(part.zero_point.reshape(-1)[0])
    if (scale, zero, part.dtype) == (behind.scale, behind.zero_point, behind.dtype):
        return integers
    return behind.of(state.lazy(part.node.outputs[0]))
