"""Means and sums over the pixels of quantised images: integers are summed, the scale follows."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ..cpu.lazy import Fill, Lazy, Leaf
from ..cpu.pixel_layout import IMAGE_TYPES, pixel_pitch
from ..cpu.pixel_sums import PixelSums
from .pixel_major import pixel_major
from .quantized import quantized_of
from .state import Lowering

__all__ = ["integer_mean"]


def integer_mean(state: Lowering, node: ir.Node, axes: tuple[int, ...], *, mean: bool) -> Lazy | None:
    """A dequantised image's reduction over its pixels, (N, C, 1, 1) float32; None where it is another."""
    quantized = quantized_of(state, node.inputs[0])
    if quantized is None or not quantized.per_tensor or quantized.dtype not in IMAGE_TYPES:
        return None
    value = state.lazy(quantized.integers)
    if len(value.shape) != 4 or axes != (2, 3) or 0 in value.shape:
        return None
    if pixel_pitch(value.shape[1]) < 16:
        state.float_reasons[quantized.node] = "an image of few channels"
        return None
    quantized.take(state)
    source = pixel_major(state, value, node.name or "image")
    images, channels = source.shape[:2]
    pitch, count = source.strides[3], prod(source.shape[2:])
    sums = state.new_tensor(f"{node.name}.sums", "int32", (images, pitch))
    state.steps.append(PixelSums(source, sums))
    used = sums.view((images, channels, 1, 1), (pitch, 1, 1, 1))
    scale = float(quantized.scale.reshape(-1)[0]) / (count if mean else 1)
    zero = int(quantized.zero_point.reshape(-1)[0]) * count
    return state.elementwise(
        "Dequantize", [Leaf(used), Fill(scale, "float32"), Fill(zero, "int32")], "float32"
    )
