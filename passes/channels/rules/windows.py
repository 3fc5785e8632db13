"""Pooling and resizing: images and channels keep their order, pixels stay where they are."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..axes import Ties
from ..registry import ties
from .operands import constant, given, rank, same_sizes

__all__: list[str] = []


@ties(
    "AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"
)  # fmt: skip
def _pool(node: ir.Node, found: Ties) -> None:
    if [output for output in node.outputs[1:] if output.uses()]:
        return  # where the largest were counts channels too
    for axis in (0, 1):
        found.same((given(node)[0], axis), (node.outputs[0], axis))


@ties("Resize")
def _resize(node: ir.Node, found: Ties) -> None:
    if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return
    data, result = given(node)[0], node.outputs[0]
    for axis in _whole_axes(node):
        if same_sizes((data, axis), (result, axis)):
            found.same((data, axis), (result, axis))


def _whole_axes(node: ir.Node) -> list[int]:
    """Axes that are not scaled."""
    data = given(node)[0]
    axes = list(node.attributes.get_ints("axes", range(rank(data))))
    others = [axis for axis in range(rank(data)) if axis not in [a % rank(data) for a in axes]]
    sizes, scales = constant(node, 3), _floats(node, 2)
    if sizes is not None and len(sizes) == len(axes):
        return others + [axis % rank(data) for axis in axes]  # equal sizes are compared by the caller
    if scales is not None and len(scales) == len(axes):
        return others + [
            axis % rank(data) for axis, scale in zip(axes, scales.tolist(), strict=True) if scale == 1
        ]
    return []


def _floats(node: ir.Node, index: int) -> np.ndarray | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = value.const_value if value is not None and not value.is_graph_input() else None
    return None if tensor is None or tensor.size == 0 else tensor.numpy().reshape(-1)
