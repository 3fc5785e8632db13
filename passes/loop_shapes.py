"""Shapes of values that a Loop carries from turn to turn: whether they stay as they start."""

from __future__ import annotations

import onnx_ir as ir

from .shapes import infer_shapes, static_shape

__all__ = ["carried_shapes", "outer_values"]

_OPSET = 21


def outer_values(graph: ir.Graph) -> list[ir.Value]:
    """Values of the graphs around it that a graph and those inside it read."""
    inside: set[ir.Value] = set()
    read: dict[ir.Value, None] = {}
    for inner in (graph, *graph.subgraphs()):
        inside.update(inner.inputs, inner.initializers.values(), *(node.outputs for node in inner))
        read.update(dict.fromkeys(v for node in inner for v in node.inputs if v is not None))
        read.update(dict.fromkeys(inner.outputs))
    return [value for value in read if value not in inside]


def carried_shapes(node: ir.Node, opset: int = _OPSET) -> list[bool | None]:
    """For each value that the Loop `node` carries: whether a turn leaves it the shape it starts with.

    None where that cannot be told, or where it starts with an unknown shape.
    """
    body = node.attributes["body"].as_graph()
    copy = body.clone(allow_outer_scope_values=True)
    states = list(zip(copy.inputs[2:], node.inputs[2:], strict=False))
    for inner, outer in states:
        if outer is not None and outer.type is not None:
            inner.type, inner.shape = outer.type, outer.shape
    for value in outer_values(copy):
        _bring_inside(copy, value)
    model = ir.Model(copy, ir_version=10)
    model.opset_imports[""] = opset
    results = list(copy.outputs[1:])
    for value in results:
        value.shape = None
    infer_shapes(model)
    starts = [static_shape(outer) for _, outer in states]
    ends = [static_shape(value) for value in copy.outputs[1 : 1 + len(states)]]
    return [None if a is None or b is None else a == b for a, b in zip(starts, ends, strict=True)]


def _bring_inside(copy: ir.Graph, value: ir.Value) -> None:
    """A value from outside becomes an input, or a constant, of a graph that then stands for itself."""
    inner = ir.Value(name=value.name, type=value.type, shape=value.shape, const_value=value.const_value)
    value_uses = [(use.node, use.idx) for use in value.uses() if _stands_in(use.node, copy)]
    for node, index in value_uses:
        node.replace_input_with(index, inner)
    if value.const_value is not None and inner.name:
        copy.register_initializer(inner)
    else:
        copy.inputs.append(inner)


def _stands_in(node: ir.Node, graph: ir.Graph) -> bool:
    return node.graph is graph or any(node.graph is inner for inner in graph.subgraphs())
