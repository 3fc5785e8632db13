"""A layer becomes two: `name.down` reads its input, `name.up` gives its output.

    Conv(x, W, b)       Conv(Conv(x, down), up, b + shift)
    Gemm(x, W, b)       Gemm(Gemm(x, down), up, b + shift)
    MatMul(x, W)        MatMul(MatMul(x, down), up)

The input's side (transA; strides, pads and dilations along axes on which `down` has a window) goes to the
first; alpha, beta, the bias and the axes on which `up` has a window to the second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..layers import Layer
from ..storing import store_weight
from .batched_products import split_by_blocks
from .constants import add_constant, drop_unused
from .factors import AnyFactors, BlockFactors, Factors

__all__ = ["add_product", "bias_of", "split_layers"]


def split_layers(model: ir.Model, layers: Sequence[Layer], factors: AnyFactors) -> None:
    """Replace `layers`, all of which read one weight, by two each, which share the factors."""
    if isinstance(factors, BlockFactors):
        split_by_blocks(model, layers, factors)
        return
    weight, name = layers[0].weight, layers[0].node.name or "layer"
    rows_are_outputs = layers[0].rows_are_outputs
    down = add_constant(model.graph, f"{name}.down.weight", _oriented(factors.down, rows_are_outputs))
    up = add_constant(model.graph, f"{name}.up.weight", _oriented(factors.up, rows_are_outputs))
    for layer in layers:
        _split(model.graph, layer, down, up, factors)
    drop_unused(model.graph, weight)
    if factors.stored is not None:
        shape = factors.up.shape
        store_weight(model, Layer(layers[0].node, up, rows_are_outputs), factors.stored, shape)


def add_product(model: ir.Model, layer: Layer, factors: Factors) -> None:
    """`layer` and, added to its result, the product of `factors`: `name.down`, `name.up`, `name.sum`."""
    graph, node = model.graph, layer.node
    name, output = node.name or "layer", node.outputs[0]
    turned = layer.rows_are_outputs
    down = add_constant(graph, f"{name}.down.weight", _oriented(factors.down, turned))
    up = add_constant(graph, f"{name}.up.weight", _oriented(factors.up, turned))
    kept = [a for a in node.attributes.values() if a.name != "beta"]
    first = ir.Node("", node.op_type, [node.inputs[0], down], name=f"{name}.down", num_outputs=1)
    second = ir.Node("", node.op_type, [first.outputs[0], up], kept, name=f"{name}.up", num_outputs=1)
    _share_attributes(second, first, factors, turned)
    total = ir.Node("", "Add", [output, second.outputs[0]], name=f"{name}.sum", num_outputs=1)
    for part in (first, second, total):
        part.outputs[0].name, part.outputs[0].type = f"{part.name}.out", output.type
    second.outputs[0].shape = total.outputs[0].shape = output.shape
    graph.insert_after(node, [first, second, total])
    given, result = output.name, total.outputs[0]
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    total.replace_input_with(0, output)
    output.name, result.name = f"{name}.decoded", given


def bias_of(layer: Layer) -> np.ndarray | None:
    """The bias [O] that a layer adds; None where it has none that a constant can change."""
    tensor = layer.weight.const_value
    given = layer.node.inputs[2] if len(layer.node.inputs) > 2 else None
    if given is None or tensor is None:
        return None
    outputs = tensor.shape.numpy()[0 if layer.rows_are_outputs else 1]
    scales = {layer.node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")}
    if given.const_value is None or given.is_graph_input() or scales != {1.0}:
        return None
    bias = given.const_value.numpy()
    return bias.reshape(-1) if bias.size == outputs and bias.dtype == np.float32 else None


def _split(graph: ir.Graph, layer: Layer, down: ir.Value, up: ir.Value, factors: Factors) -> None:
    node = layer.node
    name = node.name or "layer"
    given, shift = bias_of(layer), factors.shift
    first = ir.Node("", node.op_type, [node.inputs[0], down], name=f"{name}.down", num_outputs=1)
    middle = first.outputs[0]
    middle.name, middle.type = f"{name}.middle", node.outputs[0].type
    _share_attributes(node, first, factors, layer.rows_are_outputs)
    middle.shape = _middle_shape(node, factors)
    graph.insert_before(node, first)
    node.name = f"{name}.up"
    node.replace_input_with(0, middle)
    node.replace_input_with(1, up)
    if shift is not None and given is not None:
        old = node.inputs[2]
        node.replace_input_with(2, add_constant(graph, f"{name}.up.bias", given + shift))
        drop_unused(graph, old)


def _share_attributes(node: ir.Node, first: ir.Node, factors: Factors, rows_are_outputs: bool) -> None:
    """Move what concerns the input from `node`, the second, to `first`."""
    if node.op_type == "Conv":
        _share_windows(node, first, factors)
    elif node.op_type == "Gemm":
        _move(node, first, "transA")
        if rows_are_outputs:
            first.attributes.add(ir.AttrInt64("transB", 1))


def _share_windows(node: ir.Node, first: ir.Node, factors: Factors) -> None:
    """Axes of the window belong to the factor that is longer than one there, else to the first."""
    rank = factors.up.ndim - 2
    second = [factors.up.shape[2 + axis] > 1 for axis in range(rank)]
    plain = {"strides": 1, "dilations": 1, "pads": 0}
    for attribute, default in plain.items():
        values = node.attributes.get_ints(attribute)
        if values is None:
            continue
        mine = [default if second[i % rank] else v for i, v in enumerate(values)]
        theirs = [v if second[i % rank] else default for i, v in enumerate(values)]
        first.attributes.add(ir.AttrInt64s(attribute, mine))
        node.attributes.add(ir.AttrInt64s(attribute, theirs))
    if (auto := node.attributes.get_string("auto_pad")) is not None:
        first.attributes.add(ir.AttrString("auto_pad", auto))
    for part, array in ((first, factors.down), (node, factors.up)):
        part.attributes.add(ir.AttrInt64s("kernel_shape", list(array.shape[2:])))


def _move(node: ir.Node, first: ir.Node, name: str) -> None:
    if (attribute := node.attributes.pop(name, None)) is not None:
        first.attributes.add(attribute)


def _middle_shape(node: ir.Node, factors: Factors) -> ir.Shape | None:
    """Where it is known without arithmetic: the output's, with other channels."""
    shape = node.outputs[0].shape
    if shape is None or (node.op_type == "Conv" and any(n > 1 for n in factors.up.shape[2:])):
        return None
    sizes = list(shape)
    sizes[1 if node.op_type == "Conv" else -1] = len(factors.down)
    return ir.Shape(sizes)


def _oriented(array: np.ndarray, rows_are_outputs: bool) -> np.ndarray:
    return np.ascontiguousarray(array if rows_are_outputs else array.T)
