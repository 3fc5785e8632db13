"""Reading a node's operands: constants, ranks, and axes counted from the back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..axes import Axis, Positions, size_of

__all__ = ["all_axes", "axes_given", "constant", "given", "is_false", "rank", "same_sizes"]

_LONGEST = 1 << 20


def given(node: ir.Node) -> list[ir.Value]:
    """The inputs that are not left out."""
    return [value for value in node.inputs if value is not None]


def rank(value: ir.Value) -> int:
    """The number of axes."""
    return len(value.shape) if value.shape is not None else 0


def all_axes(value: ir.Value) -> list[Axis]:
    """Each axis of a value."""
    return [(value, index) for index in range(rank(value))]


def constant(node: ir.Node, index: int) -> Positions | None:
    """The integers of input `index` as int64 [n]; None where it is left out or not constant."""
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = value.const_value if value is not None and not value.is_graph_input() else None
    if tensor is None or tensor.size > _LONGEST or not tensor.dtype.is_integer():
        return None
    return np.asarray(tensor.numpy(), np.int64).reshape(-1)


def is_false(value: ir.Value) -> bool:
    """Whether a value is the constant false."""
    tensor = value.const_value
    return tensor is not None and tensor.size == 1 and not tensor.numpy().any()


def axes_given(node: ir.Node, name: str, index: int) -> list[int] | None:
    """Axes by the attribute `name` or as input `index`, from the front; None where not constant or left
    out."""
    value = node.inputs[0]
    assert value is not None
    if name in node.attributes:
        axes = list(node.attributes.get_ints(name, ()))
    else:
        found = constant(node, index)
        if found is None:
            return None
        axes = found.tolist()
    fits = all(-rank(value) <= axis < rank(value) for axis in axes)
    return [axis % rank(value) for axis in axes] if fits else None


def same_sizes(one: Axis, two: Axis) -> bool:
    """Whether two axes are known to be equally long."""
    return size_of(one) is not None and size_of(one) == size_of(two)
