"""Operators that give the same elements, in the same order, another shape; and Transpose."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ...shapes import static_shape
from ..moving import moves

__all__ = ["reshaped_axis", "transposed_axis"]


@moves("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", words=True)
def reshaped_axis(node: ir.Node, axis: int) -> int | None:
    """The axis of the same length with as many elements before it."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None or 0 in before:
        return None
    outer, length = prod(before[:axis]), before[axis]
    places = [i for i, n in enumerate(after) if n == length and prod(after[:i]) == outer]
    return places[0] if places else None


@moves("Transpose", words=True)
def transposed_axis(node: ir.Node, axis: int) -> int | None:
    """The place of `axis` in the permutation."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return None
    given = node.attributes.get("perm")
    order = list(given.as_ints()) if given is not None else list(range(len(shape)))[::-1]
    return order.index(axis)
