"""Operators that pick or repeat elements: scales along an axis stay with axes that they leave alone."""

from __future__ import annotations

import onnx_ir as ir

from ..moving import moves

__all__ = ["gathered_axis", "picked_axis", "selected_axis"]


@moves("Slice", "Split", "Expand", "Tile", "GatherElements", "GatherND", "ReverseSequence", words=True)
def picked_axis(node: ir.Node, axis: int) -> int | None:
    """Nobody has needed scales along an axis here."""
    return None


def _keeps_one_output(node: ir.Node) -> bool:
    return len(node.outputs) == 1


@moves("Gather", words=True)
def gathered_axis(node: ir.Node, axis: int) -> int | None:
    """Axes behind the one that is gathered move by the rank of the indices."""
    data, indices = node.inputs[0], node.inputs[1]
    if data is None or indices is None or data.shape is None or indices.shape is None:
        return None
    gathered = node.attributes.get_int("axis", 0) % len(data.shape)
    if axis == gathered:
        return None
    return axis if axis < gathered else axis + len(indices.shape) - 1


@moves("Concat", words=True, inputs=0)
def joined_axis(node: ir.Node, axis: int) -> int | None:
    """Any axis but the one along which parts are joined."""
    shape = node.outputs[0].shape
    if shape is None:
        return None
    return axis if axis != node.attributes.get_int("axis", 0) % len(shape) else None


def _is_nearest(node: ir.Node) -> bool:
    if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    return node.attributes.get_string("mode", "nearest") == "nearest"


@moves("Resize", fits=_is_nearest)
@moves("DepthToSpace", "SpaceToDepth")
@moves("MaxPool", "ReduceMax", fits=_keeps_one_output, ordered=True)
def selected_axis(node: ir.Node, axis: int) -> int | None:
    """Nobody has needed scales along an axis here. Maxima commute since scales are positive."""
    return None


@moves("Max", inputs=0, ordered=True)
def larger_axis(node: ir.Node, axis: int) -> int | None:
    """Operands may be spread over each other."""
    return None


@moves("Pad")
def padded_axis(node: ir.Node, axis: int) -> int | None:
    """Every index of a padded axis has its own scale, but what is added has none."""
    return None
