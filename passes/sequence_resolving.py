"""Sequences and optional values: which elements they have, found node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from .inlining import constant_before, inline_graph, node_before, replace_values

__all__ = ["SequenceResolver"]

_ROUNDS = 16  # what is written out may hold sequences in turn
Elements = tuple[ir.Value, ...]


class SequenceResolver:
    """Replaces, in place, what reads elements of sequences that are known.

    `resolved` names the nodes that went. Needs opset 13 or newer, by which axes and sizes are inputs.
    """

    def __init__(self) -> None:
        self.resolved: list[ir.Node] = []
        self._sequences: dict[ir.Value, Elements] = {}
        self._optionals: dict[ir.Value, ir.Value | None] = {}

    def resolve(self, graph: ir.Graph) -> None:
        """A graph and those inside its nodes."""
        for _ in range(_ROUNDS):
            before = len(self.resolved)
            self._graph(graph)
            if len(self.resolved) == before:
                return

    def _graph(self, graph: ir.Graph) -> None:
        for node in list(graph):
            for attribute in list(node.attributes.values()):
                if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                    self._graph(attribute.as_graph())
            rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if rule is not None and rule(self, node):
                self.resolved.append(node)

    # ---- what is known ----------------------------------------------------------------------
    def _elements(self, value: ir.Value | None) -> Elements | None:
        return None if value is None else self._sequences.get(value)

    def _become(self, node: ir.Node, elements: Elements) -> bool:
        """The node gives a sequence of these; it stays until nothing reads it."""
        self._sequences[node.outputs[0]] = elements
        return False

    # ---- nodes that make sequences ----------------------------------------------------------
    def construct(self, node: ir.Node) -> bool:
        return self._become(node, tuple(value for value in node.inputs if value is not None))

    def insert(self, node: ir.Node) -> bool:
        elements, place = self._elements(node.inputs[0]), _position(node, 2)
        value = node.inputs[1]
        if elements is None or place is None or value is None or place > len(elements):
            return False
        place = len(elements) if len(node.inputs) < 3 or node.inputs[2] is None else place
        place = place + len(elements) if place < 0 else place
        return self._become(node, (*elements[:place], value, *elements[place:]))

    def erase(self, node: ir.Node) -> bool:
        elements, place = self._elements(node.inputs[0]), _position(node, 1)
        if elements is None or place is None:
            return False
        place = len(elements) - 1 if len(node.inputs) < 2 or node.inputs[1] is None else place
        if not -len(elements) <= place < len(elements):
            return False
        place %= len(elements)
        return self._become(node, elements[:place] + elements[place + 1 :])

    def pass_on(self, node: ir.Node) -> bool:
        """Identity."""
        value = node.inputs[0]
        if value in self._optionals:
            self._optionals[node.outputs[0]] = self._optionals[value]
        elements = self._elements(value)
        return elements is not None and self._become(node, elements)

    def split(self, node: ir.Node) -> bool:
        sizes, value = _split_sizes(node), node.inputs[0]
        if sizes is None or not sizes or value is None:
            return False
        axis = _integer(node, "axis", 0)
        given = constant_before(node, np.array(sizes, np.int64))
        parts = node_before(node, "Split", [value, given], len(sizes), axis=axis).outputs
        if not _integer(node, "keepdims", 1) and (len(node.inputs) < 2 or node.inputs[1] is None):
            axes = constant_before(node, np.array([axis], np.int64))
            parts = [node_before(node, "Squeeze", [part, axes]).outputs[0] for part in parts]
        for part in parts:
            if value.dtype is not None:
                part.dtype = value.dtype
        return self._replace(node, [tuple(parts)])

    def map(self, node: ir.Node) -> bool:
        """SequenceMap: its body once for each element."""
        first = self._elements(node.inputs[0])
        given = [value for value in node.inputs if value is not None]
        kinds = [self._elements(value) for value in given]
        open_ones = [
            v for v, k in zip(given, kinds, strict=True) if k is None and isinstance(v.type, ir.SequenceType)
        ]
        if first is None or open_ones or any(k is not None and len(k) != len(first) for k in kinds):
            return False
        body = node.attributes["body"].as_graph()
        rows = [
            inline_graph(body, node, [v if k is None else k[i] for v, k in zip(given, kinds, strict=True)])
            for i in range(len(first))
        ]
        return self._replace(node, [tuple(row[i] for row in rows) for i in range(len(node.outputs))])

    def branch(self, node: ir.Node) -> bool:
        """An If whose graphs both give sequences of one length gives their elements."""
        graphs = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        known = [[self._elements(value) for value in graph.outputs] for graph in graphs]
        wanted = [a is not None and b is not None and len(a) == len(b) for a, b in zip(*known, strict=True)]
        if not any(wanted):
            return False
        if any(
            isinstance(v.type, ir.SequenceType) and not w for v, w in zip(node.outputs, wanted, strict=True)
        ):
            return False
        flat = [
            [e for value, own in zip(graph.outputs, sequences, strict=True) for e in (own or (value,))]
            for graph, sequences in zip(graphs, known, strict=True)
        ]
        new = node_before(node, "If", [node.inputs[0]], len(flat[0]))
        for (name, graph), values in zip(
            zip(("then_branch", "else_branch"), graphs, strict=True), flat, strict=True
        ):
            _give(graph, values)
            node.attributes.pop(name)
            new.attributes[name] = ir.AttrGraph(name, graph)
        for out, value in zip(new.outputs, flat[0], strict=True):
            out.type = value.type
        results = iter(new.outputs)
        groups: list[Elements | ir.Value] = [
            tuple(next(results) for _ in own or ()) if is_sequence else next(results)
            for own, is_sequence in zip(known[0], wanted, strict=True)
        ]
        return self._replace(node, groups)

    def _replace(self, node: ir.Node, groups: Sequence[Elements | ir.Value]) -> bool:
        """Values, or sequences of values, in place of what a node gives."""
        values = []
        for old, group in zip(node.outputs, groups, strict=True):
            if isinstance(group, ir.Value):
                values.append(group)
                continue
            made = node_before(node, "SequenceConstruct" if group else "SequenceEmpty", group).outputs[0]
            made.type = old.type
            self._sequences[made] = group
            values.append(made)
        replace_values(node, values)
        return True

    # ---- nodes that read them ---------------------------------------------------------------
    def at(self, node: ir.Node) -> bool:
        elements, place = self._elements(node.inputs[0]), _position(node, 1)
        if elements is None or place is None or not -len(elements) <= place < len(elements):
            return False
        replace_values(node, [elements[place]])
        return True

    def length(self, node: ir.Node) -> bool:
        elements = self._elements(node.inputs[0])
        if elements is None:
            return False
        replace_values(node, [constant_before(node, np.array(len(elements), np.int64))])
        return True

    def concat(self, node: ir.Node) -> bool:
        elements, axis = self._elements(node.inputs[0]), _integer(node, "axis", 0)
        if not elements:
            return False
        if _integer(node, "new_axis", 0):
            axes = constant_before(node, np.array([axis], np.int64))
            elements = tuple(node_before(node, "Unsqueeze", [e, axes]).outputs[0] for e in elements)
        replace_values(node, node_before(node, "Concat", elements, axis=axis).outputs)
        return True

    # ---- optional values --------------------------------------------------------------------
    def optional(self, node: ir.Node) -> bool:
        self._optionals[node.outputs[0]] = node.inputs[0] if node.inputs else None
        return False

    def has_element(self, node: ir.Node) -> bool:
        value = node.inputs[0] if node.inputs else None
        if value in self._optionals:
            value = self._optionals[value]
        elif value is not None and (value.type is None or isinstance(value.type, ir.OptionalType)):
            return False
        replace_values(node, [constant_before(node, np.array(value is not None, np.bool_))])
        return True

    def get_element(self, node: ir.Node) -> bool:
        value = node.inputs[0]
        if value in self._optionals:
            value = self._optionals[value]
        elif value is None or value.type is None or isinstance(value.type, ir.OptionalType):
            return False
        if value is None:
            return False  # an error of the model, which whoever runs it reports
        replace_values(node, [value])
        return True


_RULES: dict[str, Callable[[SequenceResolver, ir.Node], bool]] = {
    "SequenceConstruct": SequenceResolver.construct,
    "SequenceEmpty": SequenceResolver.construct,
    "SequenceInsert": SequenceResolver.insert,
    "SequenceErase": SequenceResolver.erase,
    "SplitToSequence": SequenceResolver.split,
    "SequenceMap": SequenceResolver.map,
    "If": SequenceResolver.branch,
    "Identity": SequenceResolver.pass_on,
    "SequenceAt": SequenceResolver.at,
    "SequenceLength": SequenceResolver.length,
    "ConcatFromSequence": SequenceResolver.concat,
    "Optional": SequenceResolver.optional,
    "OptionalHasElement": SequenceResolver.has_element,
    "OptionalGetElement": SequenceResolver.get_element,
}


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _position(node: ir.Node, index: int) -> int | None:
    """A constant position; 0 where there is none, None where it is known only at run time."""
    if len(node.inputs) <= index or node.inputs[index] is None:
        return 0
    given = node.inputs[index]
    assert given is not None
    tensor = ir.convenience.get_const_tensor(given)
    return None if tensor is None else int(tensor.numpy().reshape(-1)[0])


def _split_sizes(node: ir.Node) -> list[int] | None:
    """Of the parts along the axis; None where they are known only at run time."""
    value = node.inputs[0]
    if value is None or value.shape is None or len(value.shape) == 0:
        return None
    size = value.shape[_integer(node, "axis", 0) % len(value.shape)]
    split = node.inputs[1] if len(node.inputs) > 1 else None
    if split is None:
        return [1] * size if isinstance(size, int) else None
    tensor = ir.convenience.get_const_tensor(split)
    if tensor is None:
        return None
    array = tensor.numpy()
    if array.ndim:
        return [int(part) for part in array]
    part = int(array)
    if not isinstance(size, int) or part < 1:
        return None
    return [part] * (size // part) + ([size % part] if size % part else [])


def _give(graph: ir.Graph, values: Sequence[ir.Value]) -> None:
    """Make a graph give these values, which may come from outside or be given twice."""
    given = []
    for value in values:
        node = ir.Node("", "Identity", [value])
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        graph.append(node)
        given.append(node.outputs[0])
    graph.outputs.clear()
    graph.outputs.extend(given)
