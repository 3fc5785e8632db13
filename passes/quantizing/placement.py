"""Which values of a model are stored as integers, who reads them so, and which of them share one grid.

    conv -> bias -> relu -> [Q DQ] -> conv -> bias -> + -> relu -> [Q DQ] -> ...
                              |                       ^
                              +------------------[DQ]-+

One Q behind everything that is computed in a kernel's registers, none between a layer and what follows it
there. `layers`: inputs of quantised layers, and only those layers read the integers. `stored`: also what a
pooling, a Concat or a sum of images reads from memory, and all readers read the integers. `tables`: also what
a Sigmoid, a GELU and the like read: of a byte they are a table of 256. `all`: also each result of a layer and
of an operator for which runtimes have integer kernels that need its result quantised.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from ..shapes import static_shape

__all__ = ["Coverage", "Placement", "place"]

Coverage = Literal["layers", "stored", "tables", "all"]
Use = tuple[ir.Node, int]
_MOVES = frozenset(
    [
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Pad", "Identity"),
        *("DepthToSpace", "SpaceToDepth", "MaxPool", "Resize"),
    ]
)
_POOLS = frozenset(["GlobalAveragePool", "AveragePool", "ReduceMean", "GlobalMaxPool", "MaxPool", "Resize"])
_JOINS = frozenset(["Add", "Sub", "Mul", "Max", "Min"])
_FUSED = frozenset(
    [
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Identity", "Relu", "Clip", "LeakyRelu", "PRelu"),
        *("Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Tanh", "Erf", "Gelu", "Elu", "Selu"),
        "Softplus",
    ]
)
"""Computed in a layer's registers, if their operands are there or broadcast."""
_COSTLY = frozenset(
    ["Sigmoid", "Tanh", "Erf", "Exp", "Gelu", "Swish", "Mish", "Softplus", "Elu", "Selu", "Softsign"]
)
_IMAGE = 4
_FAR = 32  # values between those that a table reads and gives
_INTEGER_RESULTS = frozenset(["Conv", "Gemm", "MatMul", "Add", "Mul", "GlobalAveragePool", "AveragePool"])
_NOT_DATA = frozenset(["Shape", "Size"])


@dataclass
class Placement:
    """`readers` of each value to be stored as integers, in the order of the graph; `ties` share one grid."""

    readers: dict[ir.Value, set[Use]] = field(default_factory=dict)
    _parents: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def want(self, value: ir.Value, use: Use) -> bool:
        """`use` reads the integers of `value`; whether that is new."""
        uses = self.readers.setdefault(value, set())
        if use in uses:
            return False
        uses.add(use)
        return True

    def tie(self, one: ir.Value, two: ir.Value) -> None:
        """Both share one grid."""
        self._parents[self.root(one)] = self.root(two)

    def root(self, value: ir.Value) -> ir.Value:
        """The value that stands for all that share its grid."""
        while (parent := self._parents.get(value, value)) is not value:
            value = parent
        return value

    def groups(self) -> list[list[ir.Value]]:
        """Values that share a grid."""
        found: dict[ir.Value, list[ir.Value]] = {}
        for value in self.readers:
            found.setdefault(self.root(value), []).append(value)
        return list(found.values())


def place(model: ir.Model, layers: Collection[ir.Node], coverage: Coverage = "tables") -> Placement:
    """Where values become integers so that `layers`, nodes with constant weights, compute with them."""
    search = _Search(model, layers)
    for node in model.graph:
        if node in layers:
            search.want(node, 0)
    if coverage == "layers":
        return search.found
    for node in model.graph:
        if node.op_type in _POOLS and not node.domain and _is_image(node.inputs[0]):
            search.want_computed(node)
        if node.op_type in _JOINS and not node.domain:
            search.want_stored_operand(node)
        if coverage == "all" and not node.domain and node.op_type in _INTEGER_RESULTS:
            search.want_results(node)
    search.spread()
    if coverage in ("tables", "all"):
        for value in list(search.found.readers):
            search.want_table(value)
        search.spread()
    return search.found


class _Search:
    def __init__(self, model: ir.Model, layers: Collection[ir.Node]) -> None:
        self.graph, self.layers, self.found = model.graph, layers, Placement()
        self.order = {node: index for index, node in enumerate(model.graph)}
        self._waiting: list[ir.Value] = []

    def want(self, node: ir.Node, index: int) -> None:
        """Input `index` of `node` is read as integers, if it is a float value that is computed or given."""
        value = node.inputs[index]
        if value is None or not _is_activation(value) or node.graph is not self.graph:
            return
        if value not in self.found.readers:
            self._waiting.append(value)
        self.found.want(value, (node, index))

    def want_computed(self, node: ir.Node) -> None:
        """The input of a pooling, where it comes from a quantised layer."""
        value = node.inputs[0]
        if value is not None and self._layer_behind(value) is not None:
            self.want(node, 0)

    def want_results(self, node: ir.Node) -> None:
        """Readers of a result read integers, but for a Relu or Clip, which saturation stands for."""
        for use in node.outputs[0].uses():
            rectified = use.node.op_type in ("Relu", "Clip") and len(node.outputs[0].uses()) == 1
            if not rectified and self._reads_data(use.node):
                self.want(use.node, use.idx)

    def want_stored_operand(self, node: ir.Node) -> None:
        """Of two results of layers that are joined, the one that is computed first waits in memory."""
        if len(node.inputs) != 2 or not all(_is_image(value) for value in node.inputs):
            return
        shapes = [static_shape(value) for value in node.inputs]
        behind = [self._layer_behind(value) for value in node.inputs if value is not None]
        if None in behind or (shapes[0] is not None and None not in shapes and shapes[0] != shapes[1]):
            return
        if behind[0] is not behind[1]:
            order = [self.order[layer] for layer in behind if layer is not None]
            self.want(node, 0 if order[0] < order[1] else 1)

    def want_table(self, value: ir.Value) -> None:
        """Where `value` is a costly function of one other value, that one is read as integers."""
        waiting, sources, costly = [value], set[ir.Value](), False
        for current in waiting:
            if len(waiting) > _FAR:
                return
            node = current.producer()
            if (
                node is None
                or not self._is_pointwise(node)
                or (current in self.found.readers and current is not value)
            ):
                sources.add(current)
                continue
            costly |= node.op_type in _COSTLY
            waiting += [v for v in node.inputs if _is_activation(v) and v is not None and v not in waiting]
        source = sources.pop() if len(sources) == 1 else None
        if costly and source is not None and source is not value and self._layer_behind(source) is not None:
            for use in source.uses():
                self.want(use.node, use.idx)

    def _is_pointwise(self, node: ir.Node) -> bool:
        """Whether all that the node reads beside one value are single constants."""
        constants = [v.const_value for v in node.inputs if v is not None and v.const_value is not None]
        fused = node.op_type in _FUSED | _COSTLY and not node.domain and node not in self.layers
        return fused and all(tensor.size == 1 for tensor in constants)

    def spread(self) -> None:
        """Other readers, what moves the values, and joins of several, until nothing is added."""
        while self._waiting:
            value = self._waiting.pop()
            self._spread_back(value)
            if _is_image(value):
                self._spread_on(value)

    def _spread_back(self, value: ir.Value) -> None:
        """What is quantised after it was moved may as well be before: the integers move."""
        node = value.producer()
        if node is None or node.domain:
            return
        if _moves(node):
            self._tie_operands(node, [0], value)
        elif node.op_type == "Concat" and all(_is_activation(v) for v in node.inputs):
            self._tie_operands(node, range(len(node.inputs)), value)

    def _tie_operands(self, node: ir.Node, indices: Collection[int], value: ir.Value) -> None:
        for index in indices:
            source = node.inputs[index]
            if source is not None and _is_activation(source):
                self.want(node, index)
                self.found.tie(source, value)

    def _spread_on(self, value: ir.Value) -> None:
        """Of an image that is stored as integers nobody reads a float copy."""
        for use in value.uses():
            node = use.node
            if node.graph is not self.graph or not self._reads_data(node):
                continue
            self.want(node, use.idx)
            if use.idx == 0 and not node.domain and _moves(node):
                for output in node.outputs:
                    for further in output.uses():
                        self.want(further.node, further.idx)
                    if output in self.found.readers:
                        self.found.tie(output, value)

    def _reads_data(self, node: ir.Node) -> bool:
        return node.op_type not in _NOT_DATA and not any(
            attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()
        )

    def _layer_behind(self, value: ir.Value) -> ir.Node | None:
        """The quantised layer in whose registers `value` is computed; the last one, if there are several."""
        waiting, last = [value], None
        for current in waiting:
            node = current.producer()
            if node is None or node.graph is not self.graph:
                continue
            if node in self.layers:
                last = node if last is None or self.order[node] > self.order[last] else last
            elif node.op_type in _FUSED and not node.domain and current not in self.found.readers:
                waiting += [v for v in node.inputs if v is not None and v not in waiting]
        return last


def _moves(node: ir.Node) -> bool:
    """Whether the node's results are values of its first input, or zeros."""
    if node.domain or node.op_type not in _MOVES:
        return False
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1
    if node.op_type == "Resize":
        return node.attributes.get_string("mode", "nearest") == "nearest"
    return node.op_type != "Pad" or _pads_with_zeros(node)


def _pads_with_zeros(node: ir.Node) -> bool:
    if node.attributes.get_string("mode", "constant") != "constant":
        return True  # what is there already
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return value is None or (value.const_value is not None and not value.const_value.numpy().any())


def _is_activation(value: ir.Value | None) -> bool:
    """Whether it is float32 and depends on the model's inputs, as far as that shows."""
    return value is not None and value.dtype == ir.DataType.FLOAT and value.const_value is None


def _is_image(value: ir.Value | None) -> bool:
    return (
        _is_activation(value) and value is not None and value.shape is not None and len(value.shape) == _IMAGE
    )
