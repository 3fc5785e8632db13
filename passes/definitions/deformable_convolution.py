"""DeformConv as samples between the elements of the image, and a 1x1 convolution of them.

Every tap of every window is read where its offset moves it: GridSample of the image, with a grid of (taps,
pixels) for each group of offsets. https://onnx.ai/onnx/operators/onnx__DeformConv.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .base import Body

OPERATORS = ("DeformConv",)


def define(body: Body, node: ir.Node) -> Sequence[str] | None:
    """Images of two axes and known size; None for others."""
    shapes = [None if v is None or v.shape is None else v.shape for v in node.inputs[:3]]
    if any(s is None or len(s) != 4 or not s.is_static() for s in shapes):
        return None
    (n, c, h, w), (m, inner, kh, kw), (_, _, oh, ow) = (s.numpy() for s in shapes if s is not None)
    groups = node.attributes.get_int("offset_group", 1)
    taps, pixels = kh * kw, oh * ow
    x, weight, offset = body.inputs[:3]
    bias, mask = (body.inputs[i] if len(body.inputs) > i else "" for i in (3, 4))
    image = body.op("Reshape", x, body.constant([n * groups, c // groups, h, w]))
    moved = body.op("Reshape", offset, body.constant([n * groups, taps, 2, pixels]))
    moved = body.op("Transpose", moved, perm=[0, 1, 3, 2])
    places = body.op("Add", moved, body.constant(_places(node, kh, kw, oh, ow), np.float32))
    # a coordinate y lies at (2 y + 1) / h - 1 between -1 and 1
    scale, shift = np.array([2 / h, 2 / w]), np.array([1 / h - 1, 1 / w - 1])
    grid = body.op("Mul", places, body.constant(scale, np.float32))
    grid = body.op("Add", grid, body.constant(shift, np.float32))
    grid = body.op("Gather", grid, body.constant([1, 0]), axis=3)
    sampled = body.op("GridSample", image, grid, mode="linear", padding_mode="zeros", align_corners=0)
    if mask:
        weights = body.op("Reshape", mask, body.constant([n * groups, 1, taps, pixels]))
        sampled = body.op("Mul", sampled, weights)
    columns = body.op("Reshape", sampled, body.constant([n, c * taps, oh, ow]))
    flat = body.op("Reshape", weight, body.constant([m, inner * taps, 1, 1]))
    inputs = [columns, flat, bias] if bias else [columns, flat]
    return [body.op("Conv", *inputs, group=node.attributes.get_int("group", 1), kernel_shape=[1, 1])]


def _places(node: ir.Node, kh: int, kw: int, oh: int, ow: int) -> np.ndarray:
    """(1, taps, pixels, 2): row and column of every tap without its offset."""
    sy, sx = node.attributes.get_ints("strides", (1, 1))
    dy, dx = node.attributes.get_ints("dilations", (1, 1))
    top, left = node.attributes.get_ints("pads", (0, 0, 0, 0))[:2]
    rows = (np.arange(kh) * dy - top)[:, None, None, None] + (np.arange(oh) * sy)[None, None, :, None]
    columns = (np.arange(kw) * dx - left)[None, :, None, None] + (np.arange(ow) * sx)[None, None, None, :]
    both = np.stack(np.broadcast_arrays(rows, columns), axis=-1)
    return both.reshape(1, kh * kw, oh * ow, 2)
