"""Sliding-window attributes of Conv and pooling nodes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..cpu.window import Window
from .attributes import integers, text

__all__ = ["window_of"]


def window_of(
    node: ir.Node, in_size: Sequence[int], out_size: Sequence[int], kernel: Sequence[int]
) -> Window:
    """The node's window; a 1-D node's (length,) attributes apply to the width, the height being 1."""
    strides = integers(node, "strides", (1,) * len(in_size))
    dilations = integers(node, "dilations", (1,) * len(in_size))
    strides, dilations = (1, *strides)[-2:], (1, *dilations)[-2:]
    pads = _pads(node, in_size, out_size, kernel, strides, dilations)
    return Window(_pair(in_size), _pair(out_size), _pair(kernel), _pair(strides), _pair(dilations), pads)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _pads(
    node: ir.Node,
    in_size: Sequence[int],
    out_size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right), with auto_pad worked out."""
    auto = text(node, "auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = integers(node, "pads", (0, 0, 0, 0))
        return (0, pads[0], 0, pads[1]) if len(pads) == 2 else (pads[0], pads[1], pads[2], pads[3])
    if auto == "VALID":
        return (0, 0, 0, 0)
    begins, ends = [], []
    for axis in range(2):
        reach = (out_size[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = max(0, reach - in_size[axis])
        small, large = total // 2, total - total // 2
        begins.append(large if auto == "SAME_LOWER" else small)
        ends.append(small if auto == "SAME_LOWER" else large)
    return (begins[0], begins[1], ends[0], ends[1])
