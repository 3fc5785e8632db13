"""Quantised weights behind a Transpose or a new shape: the stored integers are turned, and DQ reads them.

Transpose(DQ(w, scale along axis 0))  =  DQ(w', scale along axis 1)
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ...shapes import static_shape
from ..canonical import looks_at
from ..moving import movement_of
from ..parameters import Parameters, is_dequantize, parameters_of
from ..writing import Refused, Writer, constant_of, drop_unread

__all__ = ["is_turned_constant", "turn_constant"]

Array = np.ndarray[Any, Any]


def is_turned_constant(node: ir.Node) -> bool:
    """Whether `node` turns or reshapes a quantised constant."""
    source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    return source is not None and is_dequantize(source) and constant_of(source.inputs[0]) is not None


@looks_at("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
def turn_constant(node: ir.Node) -> str:
    """Done now, for integers, scales and zero points of any type; refused where a scale's axis is cut."""
    movement, shape = movement_of(node), static_shape(node.outputs[0])
    if not is_turned_constant(node) or movement is None or shape is None or node.inputs[0] is None:
        return ""
    source = node.inputs[0].producer()
    given = parameters_of(source)
    if source is None or given is None or (array := constant_of(source.inputs[0])) is None:
        return ""
    axis = 0 if given.per_tensor else movement.axis(node, given.axis)
    if axis is None or (given.block and not _keeps_others(node, array.shape, shape, given.axis, axis)):
        raise Refused(f"scales along axis {given.axis} do not follow what it does to the weight")
    writer = Writer(node)
    integers = writer.constant("turned", _turned(node, array, shape))
    scale, zero = given.scale, given.zero
    if given.block:
        scale, zero = _turned_blocks(writer, given, shape, axis)
    writer.give(writer.dequantize(integers, scale, zero, axis, given.block, name=source.name or ""))
    drop_unread(source)
    return "done to the integers of a constant"


def _turned(node: ir.Node, array: Array, shape: tuple[int, ...]) -> Array:
    if node.op_type != "Transpose":
        return array.reshape(shape)
    order = node.attributes.get("perm")
    return np.ascontiguousarray(np.transpose(array, tuple(order.as_ints()) if order is not None else None))


def _keeps_others(
    node: ir.Node, before: tuple[int, ...], after: tuple[int, ...], axis: int, moved: int
) -> bool:
    """Whether blocks along the axis are blocks again: all axes may be regrouped, but not across it."""
    return node.op_type == "Transpose" or prod(before[axis + 1 :]) == prod(after[moved + 1 :])


def _turned_blocks(
    writer: Writer, given: Parameters, shape: tuple[int, ...], axis: int
) -> tuple[ir.Value, ir.Value | None]:
    values = given.values()
    if values is None:
        raise Refused("scales of blocks are known only at run time")
    blocks = tuple(values[0].shape[given.axis] if i == axis else n for i, n in enumerate(shape))
    turned = [_turned(writer.node, array, blocks) for array in values]
    scale = writer.constant("scale", turned[0])
    return scale, None if given.zero is None else writer.constant("zero_point", turned[1])
