"""Graphs inside nodes become nodes of the graph around them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

__all__ = ["constant_before", "inline_graph", "node_before", "replace_values"]


def inline_graph(body: ir.Graph, before: ir.Node, inputs: Sequence[ir.Value]) -> list[ir.Value]:
    """A copy of `body` just before the node `before`, reading `inputs`; what its outputs are there.

    The copy of an output that is an input, or a value from outside, is that value.
    """
    around = before.graph
    assert isinstance(around, ir.Graph)
    copy = body.clone(allow_outer_scope_values=True)
    results = list(copy.outputs)
    copy.outputs.clear()
    for formal, actual in zip(list(copy.inputs), inputs, strict=True):
        results = [actual if value is formal else value for value in results]
        formal.replace_all_uses_with(actual)
    for name, value in list(copy.initializers.items()):
        copy.initializers.pop(name)
        _adopt(around, value)
    nodes = list(copy)
    copy.remove(nodes)
    around.insert_before(before, nodes)
    for node in nodes:  # names are made unique by `name_everything`
        node.name = None
    return results


def _adopt(graph: ir.Graph, value: ir.Value) -> None:
    name, number = value.name or "constant", 0
    taken = name
    while taken in graph.initializers or any(v.name == taken for v in graph.inputs):
        number += 1
        taken = f"{name}_{number}"
    value.name = taken
    graph.register_initializer(value)


def node_before(
    before: ir.Node, operator: str, inputs: Sequence[ir.Value | None], outputs: int = 1, **attributes: object
) -> ir.Node:
    """A new node of the standard domain just before another."""
    given = ir.convenience.convert_attributes(attributes)  # type: ignore[arg-type]
    node = ir.Node("", operator, inputs, given, num_outputs=outputs)
    graph = before.graph
    assert graph is not None
    graph.insert_before(before, node)
    return node


def constant_before(before: ir.Node, array: object) -> ir.Value:
    """A constant just before a node."""
    node = node_before(before, "Constant", [], value=ir.tensor(array))  # type: ignore[arg-type]
    value = node.outputs[0]
    tensor = node.attributes["value"].as_tensor()
    value.dtype, value.shape, value.const_value = tensor.dtype, ir.Shape(tensor.numpy().shape), tensor
    return value


def replace_values(node: ir.Node, new: Sequence[ir.Value]) -> None:
    """Make `new` stand for the outputs of `node`, which goes."""
    graph = node.graph
    assert graph is not None
    for old, value in zip(node.outputs, new, strict=True):
        if old.is_graph_output():  # an output of a graph has a producer of its own in that graph
            value = node_before(node, "Identity", [value]).outputs[0]
            value.type, value.shape = old.type, old.shape
            name, old.name = old.name, None
            value.name = name
        old.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
