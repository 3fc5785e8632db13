"""The ties of a whole model: every node is asked, and what no rule knows stays where it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from ..base import node_label
from .axes import Axis, Ties
from .registry import rule_for

__all__ = ["read_ties"]


def read_ties(model: ir.Model) -> Ties:
    """What the nodes of the main graph say about the axes of its values; shapes are inferred before.

    Inputs and outputs of the model are pinned, and so is all that a node without a rule reads or gives, and
    what graphs inside nodes read.
    """
    found = Ties()
    _pin(found, model.graph.inputs, "an input of the model")
    _pin(found, model.graph.outputs, "an output of the model")
    _pin(found, _inside(model), "read inside the body of a node")
    for node in model.graph:
        _read_node(node, found)
    return found


def _read_node(node: ir.Node, found: Ties) -> None:
    """Ties what the node's rule knows of; pins the rest."""
    outputs = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    operands = dict.fromkeys(value for value in (*node.inputs, *outputs) if value is not None)
    rule = rule_for(node)
    found.named = set()
    if rule is not None and all(value.shape is not None for value in operands):
        rule(node, found)
    left = [axis for axis in _axes(operands) if axis not in found.named]
    for axis in left:
        found.pin(axis, f"{node.op_type} {node_label(node)} needs its order")


def _axes(values: Iterable[ir.Value]) -> Iterator[Axis]:
    for value in values:
        yield from ((value, index) for index in range(len(value.shape or ())))


def _pin(found: Ties, values: Iterable[ir.Value], what: str) -> None:
    for value, index in _axes(values):
        found.pin((value, index), f"{value.name} is {what}")


def _inside(model: ir.Model) -> Iterator[ir.Value]:
    """Values that graphs inside the nodes of the main graph read or give."""
    for graph in model.graphs():
        if graph is not model.graph:
            yield from graph.outputs
            for node in graph:
                yield from (value for value in node.inputs if value is not None)
