"""Reductions: the order of what is summed up does not matter."""

from __future__ import annotations

import onnx_ir as ir

from ..axes import Ties
from ..registry import ties
from .operands import all_axes, axes_given, given, rank

__all__: list[str] = []

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


@ties(*(f"Reduce{name}" for name in _REDUCTIONS))
def _reduce(node: ir.Node, found: Ties) -> None:
    data = given(node)[0]
    axes = axes_given(node, "axes", 1)
    if axes is None and len(given(node)) > 1:
        return
    if not axes:
        every = node.attributes.get_int("noop_with_empty_axes", 0) == 0
        axes = list(range(rank(data))) if every else []
    _reduced(node, found, axes)
    found.free(*((data, axis) for axis in axes))


def _reduced(node: ir.Node, found: Ties, axes: list[int]) -> None:
    """Ties the axes that are not reduced to those of the result."""
    data, result = given(node)[0], node.outputs[0]
    keeps = node.attributes.get_int("keepdims", 1) != 0
    left = [axis for axis in range(rank(data)) if axis not in axes]
    for place, axis in enumerate(left):
        found.same((data, axis), (result, axis if keeps else place))
    if keeps:
        found.free(*((result, axis) for axis in axes))


@ties("ArgMax", "ArgMin")
def _index_of(node: ir.Node, found: Ties) -> None:
    data = given(node)[0]
    axis = int(node.attributes.get_int("axis", 0))
    if -rank(data) <= axis < rank(data):
        _reduced(node, found, [axis % rank(data)])


@ties("CumSum", "Hardmax", "TopK")
def _along(node: ir.Node, found: Ties) -> None:
    """All axes but one are independent of each other."""
    data = given(node)[0]
    if node.op_type == "CumSum":
        axes = axes_given(node, "", 1)
    else:
        axes = [int(node.attributes.get_int("axis", -1)) % max(1, rank(data))]
    if axes is None:
        return
    for axis in range(rank(data)):
        if axis not in axes:
            found.same((data, axis), *((output, axis) for output in node.outputs))


@ties("Shape", "Size")
def _shape(node: ir.Node, found: Ties) -> None:
    found.free(*all_axes(given(node)[0]))
