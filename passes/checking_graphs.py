"""What a protobuf of the right form may still say that means nothing: checked before any library reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from gossamer.runtime.errors import ModelError

from .stored_tensors import graphs_of

__all__ = ["check_graphs"]

_LONGEST_NAME = 4096
"""Characters of a name, as in an artifact's manifest."""
_MOST_ATTRIBUTES = 1 << 22
"""Numbers in the lists of one attribute; what is longer is a tensor in every model that means something."""

_MOST_NODES = 1_000_000
"""Nodes of a graph, those of called functions counted for each call."""

_DEEPEST_CALL = 64


def check_graphs(proto: onnx.ModelProto) -> None:
    """Raises ModelError for unknown opsets, attributes given twice or of a function outside one, outputs
    listed twice or none, absurd names, and functions that call each other in a circle or grow without end.
    """
    _check_opsets(proto)
    for graph in graphs_of(proto):
        _check_outputs([value.name for value in graph.output])
        _check_names([*(v.name for v in graph.input), *(t.name for t in graph.initializer)])
    if not proto.graph.output:
        raise ModelError("the graph has no outputs", where=proto.graph.name)
    for node in _all_nodes(proto.graph.node):
        _check_node(node)
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise ModelError(
                    f"attribute {attribute.name!r} refers to a function's, and this is no function",
                    where=_label(node),
                )
    for function in proto.functions:
        _check_outputs(function.output)
        for node in _all_nodes(function.node):
            _check_node(node)
    _check_functions(proto)


def _check_opsets(proto: onnx.ModelProto) -> None:
    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx": onnx.defs.onnx_opset_version()}
    for opset in [*proto.opset_import, *(entry for f in proto.functions for entry in f.opset_import)]:
        most = newest.get(opset.domain)
        if most is not None and not 1 <= opset.version <= most:
            raise ModelError(
                "the model is written in an opset that does not exist",
                where=f"opset {opset.domain or 'ai.onnx'}",
                expected=f"1..{most}",
                got=opset.version,
                advice="a newer onnx package knows later ones" if opset.version > most else None,
            )


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                yield from _all_nodes(graph.node)


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} node {node.name or (node.output[0] if node.output else '')!r}"


def _check_outputs(names: Iterable[str]) -> None:
    seen = set[str]()
    for name in names:
        if name in seen:
            raise ModelError("an output is listed twice", where=name)
        seen.add(name)


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if len(name) > _LONGEST_NAME:
            raise ModelError(
                "a name is too long",
                where=name,
                expected=f"at most {_LONGEST_NAME} characters",
                got=len(name),
            )


def _check_node(node: onnx.NodeProto) -> None:
    _check_names([node.name, *node.output])
    seen = set[str]()
    for attribute in node.attribute:
        if attribute.name in seen:
            raise ModelError(f"attribute {attribute.name!r} is given twice", where=_label(node))
        seen.add(attribute.name)
        if max(len(attribute.ints), len(attribute.floats), len(attribute.strings)) > _MOST_ATTRIBUTES:
            raise ModelError(f"attribute {attribute.name!r} has too many values", where=_label(node))


def _check_functions(proto: onnx.ModelProto) -> None:
    """Functions call others, never themselves, and do not grow without bound when they are written out.

    Overloads of one name are looked at as one: what one of them calls, each may.
    """
    calls: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for function in proto.functions:
        called = [(node.domain, node.op_type) for node in _all_nodes(function.node)]
        calls.setdefault((function.domain, function.name), []).extend(called)
    sizes: dict[tuple[str, str], int] = {}
    for _ in range(_DEEPEST_CALL):
        ready = [
            k
            for k, called in calls.items()
            if k not in sizes and all(c in sizes or c not in calls for c in called)
        ]
        sizes |= {key: 1 + sum(sizes.get(called, 1) for called in calls[key]) for key in ready}
    if left := calls.keys() - sizes.keys():
        raise ModelError(
            "functions call each other in a circle, or too deeply",
            where="function " + ".".join(min(left)),
            expected=f"at most {_DEEPEST_CALL} calls inside each other",
        )
    total = sum(sizes.get((node.domain, node.op_type), 1) for node in _all_nodes(proto.graph.node))
    if total > _MOST_NODES:
        raise ModelError(
            "the graph is too large with its functions written out",
            expected=f"at most {_MOST_NODES} nodes",
            got=total,
        )
