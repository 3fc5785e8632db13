"""A matrix product becomes two batched ones with a permutation between, in standard operators.

    MatMul(x [n, K], W) = Reshape [n, k, p] -> Transpose [k, n, p] -> MatMul first [k, p, q * b] ->
        Reshape [k, n, q, b] -> Transpose [q, n, k, b] -> Reshape [q, n, k * b] ->
        MatMul second [q, k * b, s] -> Transpose [n, s, q] -> Reshape [n, N]

With b = 1 the two Reshapes in the middle are left out. The last product is called `name.up`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ..layers import Layer
from .constants import add_constant, drop_unused
from .factors import BlockFactors

__all__ = ["split_by_blocks", "why_not_by_blocks"]


def why_not_by_blocks(layer: Layer) -> str:
    """Why `layer` cannot become batched products; empty if it can."""
    node = layer.node
    if node.op_type == "Conv":
        return "a convolution is no matrix product"
    if node.attributes.get_int("transA", 0) or any(
        node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")
    ):
        return "it has transA, alpha or beta"
    shape = node.outputs[0].shape
    if shape is None or sum(not isinstance(size, int) for size in shape) > 1 or len(shape) < 2:
        return "the shape of its result is not known"
    return ""


def split_by_blocks(model: ir.Model, layers: Sequence[Layer], factors: BlockFactors) -> None:
    """Replace `layers`, all of which read one weight, by batched products that share the factors."""
    graph, name = model.graph, layers[0].node.name or "layer"
    first = add_constant(graph, f"{name}.down.weight", factors.first)
    second = add_constant(graph, f"{name}.up.weight", factors.second)
    weight = layers[0].weight
    for layer in layers:
        _replace(graph, layer.node, first, second, factors)
    drop_unused(graph, weight)


class _Chain:
    """Nodes in a row, each named after the layer."""

    def __init__(self, graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
        self.nodes, self.value, self._graph, self._name = list[ir.Node](), value, graph, node.name or "layer"
        self._kind = node.outputs[0].type

    def add(self, operator: str, part: str, *more: ir.Value, **attributes: Any) -> None:
        given = [ir.convenience.convert_attribute(key, value) for key, value in attributes.items()]
        node = ir.Node("", operator, [self.value, *more], given, name=f"{self._name}.{part}", num_outputs=1)
        self.value = node.outputs[0]
        self.value.name, self.value.type = f"{node.name}.out", self._kind
        self.nodes.append(node)

    def reshape(self, part: str, sizes: Sequence[int]) -> None:
        shape = add_constant(self._graph, f"{self._name}.{part}.shape", np.array(sizes, np.int64))
        self.add("Reshape", part, shape)


def _replace(
    graph: ir.Graph, node: ir.Node, first: ir.Value, second: ir.Value, factors: BlockFactors
) -> None:
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    assert output.shape is not None
    (k, p, _), q, rank = factors.first.shape, len(factors.second), factors.rank
    chain = _Chain(graph, node, source)
    chain.reshape("blocks", [-1, k, p])
    chain.add("Transpose", "to_batches", perm=[1, 0, 2])
    chain.add("MatMul", "down", first)
    if rank > 1:
        chain.reshape("split", [k, -1, q, rank])
        chain.add("Transpose", "turn", perm=[2, 1, 0, 3])
        chain.reshape("join", [q, -1, k * rank])
    else:
        chain.add("Transpose", "turn", perm=[2, 1, 0])
    chain.add("MatMul", "up", second)
    chain.add("Transpose", "from_batches", perm=[1, 2, 0])
    chain.reshape("whole", [size if isinstance(size, int) else -1 for size in output.shape])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        if factors.shift is not None and bias.const_value is not None:
            array = bias.const_value.numpy().reshape(-1) + factors.shift
            chain.add("Add", "bias", add_constant(graph, f"{node.name}.up.bias", array))
        else:
            chain.add("Add", "bias", bias)
    ir.convenience.replace_nodes_and_values(graph, node, [node], chain.nodes, [output], [chain.value])
    drop_unused(graph, bias)
