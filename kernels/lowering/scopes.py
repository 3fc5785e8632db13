"""Graphs inside nodes: what they take from outside, and what must not leave them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir

from ..cpu.lazy import Fill, Leaf
from .state import Lowering
from .tree import Step

__all__ = ["captured", "nested", "read_elsewhere", "store_captured"]


def captured(graph: ir.Graph) -> list[ir.Value]:
    """Values of the graphs around it that a graph and those inside it read."""
    found: dict[ir.Value, None] = {}
    _collect(graph, set(), found)
    return list(found)


def _collect(graph: ir.Graph, inside: set[ir.Value], found: dict[ir.Value, None]) -> None:
    inside = inside | set(graph.inputs) | set(graph.initializers.values())
    for node in graph:
        read = (value for value in node.inputs if value is not None and value not in inside)
        found.update(dict.fromkeys(read))
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                _collect(attribute.as_graph(), inside, found)
        inside.update(node.outputs)
    found.update(dict.fromkeys(value for value in graph.outputs if value not in inside))


def read_elsewhere(value: ir.Value) -> bool:
    """Whether a graph inside a node reads the value, or a graph gives it: it is needed as it is."""
    node = value.producer()
    return value.is_graph_output() or any(
        node is not None and use.node.graph is not node.graph for use in value.uses()
    )


def store_captured(state: Lowering, graph: ir.Graph) -> None:
    """Computes once what each turn of a loop would compute again."""
    for value in captured(graph):
        lazy = state.values.get(value)
        if lazy is not None and not isinstance(lazy, Leaf | Fill):
            state.values[value] = Leaf(state.tensor(lazy, value.name or "captured"))


@contextmanager
def nested(state: Lowering) -> Iterator[list[Step]]:
    """Within the block kernels are appended to the list that it is given.

    What is computed inside may not have been computed when what follows runs, so nothing of it stays known.
    """
    steps, values, turned = state.steps, state.values, state.turned
    inside: list[Step] = []
    state.steps, state.values, state.turned = inside, dict(values), dict(turned)
    try:
        yield inside
    finally:
        state.steps, state.values, state.turned = steps, values, turned
