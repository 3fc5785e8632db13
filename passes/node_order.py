"""Names that are produced once, and nodes that follow what they read."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

import onnx

from gossamer.runtime.errors import ModelError

__all__ = ["NESTING_LIMIT", "put_in_order"]

NESTING_LIMIT = 16
"""Graphs inside nodes inside graphs: deeper than any real model, and within protobuf's own limit."""


def put_in_order(proto: onnx.ModelProto) -> None:
    """Sort the nodes of every graph; raises ModelError for cycles, unknown names and names produced twice."""
    _order_graph(proto.graph, frozenset(), 0)
    for function in proto.functions:
        known = _once([*function.input], function.node, function.name)
        ordered = _sorted_nodes(function.node, known, frozenset(function.input), function.name)
        _replace(function.node, ordered)
        _check_outputs(function.output, known, function.name)
        for node in function.node:
            _order_inside(node, known, 1)


def _order_graph(graph: onnx.GraphProto, outer: frozenset[str], depth: int) -> None:
    if depth > NESTING_LIMIT:
        raise ModelError(
            "graphs are nested too deeply", where=graph.name, expected=f"at most {NESTING_LIMIT}"
        )
    stored = [tensor.name for tensor in graph.initializer]
    if len(set(stored)) != len(stored):
        raise ModelError("an initializer is given twice", where=_duplicate(stored))
    given = [value.name for value in graph.input]
    start = [*given, *(name for name in stored if name not in set(given))]
    known = _once(start, graph.node, graph.name)
    _replace(graph.node, _sorted_nodes(graph.node, known | outer, frozenset(start) | outer, graph.name))
    _check_outputs((value.name for value in graph.output), known | outer, graph.name)
    for node in graph.node:
        _order_inside(node, known | outer, depth + 1)


def _order_inside(node: onnx.NodeProto, known: frozenset[str], depth: int) -> None:
    for graph in _graphs_in(node):
        _order_graph(graph, known, depth)


def _graphs_in(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    single = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return single + [graph for attribute in node.attribute for graph in attribute.graphs]


def _once(start: Sequence[str], nodes: Iterable[onnx.NodeProto], where: str) -> frozenset[str]:
    names = [*start, *(name for node in nodes for name in node.output if name)]
    known = frozenset(names)
    if len(known) != len(names):
        raise ModelError("a name is produced twice", where=_duplicate(names), advice=f"in graph {where!r}")
    return known


def _duplicate(names: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _check_outputs(outputs: Iterable[str], known: frozenset[str], where: str) -> None:
    for name in outputs:
        if name not in known:
            raise ModelError("an output is produced by no node", where=name, advice=f"in graph {where!r}")


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, with those that graphs inside it take from outside."""
    names = {name for name in node.input if name}
    for graph in _graphs_in(node):
        inside = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        inside |= {name for inner in graph.node for name in inner.output}
        wanted = {name for inner in graph.node for name in _reads(inner)} | {v.name for v in graph.output}
        names |= wanted - inside
    return names


def _sorted_nodes(
    nodes: Sequence[onnx.NodeProto], known: frozenset[str], start: frozenset[str], where: str
) -> list[int] | None:
    """The order in which nodes follow what they read, by index; None where they already do."""
    reads = [_reads(node) for node in nodes]
    for node, names in zip(nodes, reads, strict=True):
        if unknown := sorted(names - known):
            raise ModelError(
                f"{node.op_type} node {node.name!r} reads {unknown[0]!r}, which nothing produces",
                advice=f"in graph {where!r}",
            )
    ready, ordered = set(start), True
    for node, names in zip(nodes, reads, strict=True):
        ordered = ordered and names <= ready
        ready.update(node.output)
    return None if ordered else _topological(nodes, reads, start, where)


def _topological(
    nodes: Sequence[onnx.NodeProto], reads: list[set[str]], start: frozenset[str], where: str
) -> list[int]:
    readers: dict[str, list[int]] = defaultdict(list)
    waiting = [len(names - start) for names in reads]
    for index, names in enumerate(reads):
        for name in names - start:
            readers[name].append(index)
    queue = deque(index for index, count in enumerate(waiting) if count == 0)
    order: list[int] = []
    while queue:
        order.append(index := queue.popleft())
        for name in nodes[index].output:
            for reader in readers.pop(name, ()):
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    queue.append(reader)
    if len(order) != len(nodes):
        stuck = nodes[next(index for index, count in enumerate(waiting) if count)]
        raise ModelError(
            f"the graph has a cycle through {stuck.op_type} node {stuck.name or stuck.output[0]!r}",
            advice=f"in graph {where!r}",
        )
    return order


def _replace(container: object, order: list[int] | None) -> None:
    if order is None:
        return
    copies = [onnx.NodeProto() for _ in order]
    for copy, index in zip(copies, order, strict=True):
        copy.CopyFrom(container[index])  # type: ignore[index]  # a protobuf container
    del container[:]  # type: ignore[attr-defined]
    container.extend(copies)  # type: ignore[attr-defined]
