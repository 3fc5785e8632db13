"""Convolutions of a few pixels as products: windows are rows, so that lanes are output channels.

Where a plane has fewer pixels than half a vector, as in models of speech, lanes of pixels would be empty.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from ..cpu.arithmetic import maximum, minimum
from ..cpu.builder import constant, int32
from ..cpu.epilogue import Accumulator
from ..cpu.lazy import Lazy, Leaf
from ..cpu.window import Window
from ..dims import is_fixed
from .attributes import integer, require_equal
from .choice import Choice, choose_rows
from .fusion import Epilogue
from .operators.movement import transposed
from .product_parts import bias_row
from .report import report_layer
from .row_products import in_rows
from .state import Lowering
from .windows import window_of

__all__ = ["few_pixels"]


def few_pixels(state: Lowering, node: ir.Node, weights: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Lowers a one-dimensional convolution of this kind, weights (M, C, k); False for all others."""
    rows = prod((shape[0], *shape[2:])) if is_fixed(*shape) else 0
    if weights.ndim != 3 or not 0 < 2 * rows <= state.isa.lanes or integer(node, "group", 1) != 1:
        return False
    image, bias = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    assert image is not None
    source = state.lazy(image)
    matrix = weights.transpose(2, 1, 0).reshape(-1, shape[1])  # (k · C, M)
    row, rest = bias_row(state, node, bias, 1.0, shape[1])
    stored = node.inputs[1] in state.encoded or choose_rows(state.isa, weights.reshape(shape[1], -1)).rows
    if stored or rest is not None or source.dtype != "float32" or not is_fixed(*source.shape):
        return False
    require_equal(node, "input channels", weights.shape[1], source.shape[1])
    width = source.shape[2]
    window = window_of(node, (1, width), (1, shape[2]), (1, weights.shape[2]))
    windows = state.dense(_windows(state, source, window, shape[2]), "windows")
    flat = (rows, shape[1])
    epilogue = Epilogue(Accumulator(flat), node.outputs[0])
    left = windows.view((rows, len(matrix)), (len(matrix), 1))
    plain = Choice("gemm", 0, "", "a few pixels")
    out, choice = in_rows(state, node, left, matrix, row, flat, plain, epilogue)
    report_layer(state, node, weights, out, choice, None)
    strides = (shape[2] * shape[1], shape[1], 1)
    pixels = Leaf(out.view((shape[0], shape[2], shape[1]), strides))
    state.define(node.outputs[0], transposed(state, pixels, (0, 2, 1)))
    return True


def _windows(state: Lowering, source: Lazy, window: Window, pixels: int) -> Lazy:
    """(N, pixels, k, C) of an image (N, C, W), zero outside."""
    batch, channels, width = source.shape
    step, apart, before = window.strides[1], window.dilations[1], window.pads[1]
    inside = before == 0 and window.pads[3] == 0

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        n, pixel, tap, channel = index
        at = pixel * step + tap * apart - before
        if inside:
            return sources[0].at(scope, [n, channel, at])
        value = sources[0].at(scope, [n, channel, minimum(maximum(at, int32(0)), int32(width - 1))])
        return tir.Select(tir.And(at >= 0, at < width), value, constant(0.0, "float32"))

    shape = (batch, pixels, window.kernel[1], channels)
    return state.moved([source], shape, pick, "windows", step, apart, before, width, conditional=not inside)
