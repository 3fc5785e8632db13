"""Layers whose inputs are quantised when the model runs: nothing is measured before.

    x -> DynamicQuantizeLinear -> q, s, z
    MatMulInteger(q, W8, z) -> Cast -> Mul (s * scale of each output) -> Add bias

Conv becomes ConvInteger. Source: ONNX operators DynamicQuantizeLinear, MatMulInteger, ConvInteger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..layers import Layer
from .inserting import add_initializer
from .rounding import Rounded

__all__ = ["make_dynamic"]

_BIAS = 2


def make_dynamic(model: ir.Model, layers: Sequence[Layer], weights: dict[str, Rounded]) -> dict[str, int]:
    """Replace `layers` in place, their weights rounded as `weights` says by name; bytes stored by name."""
    graph = model.graph
    inputs = dict[ir.Value, list[ir.Value]]()
    stored = dict[str, tuple[ir.Value, ir.Value]]()
    for layer in layers:
        name, value = str(layer.weight.name), layer.node.inputs[0]
        assert value is not None
        if value not in inputs:
            inputs[value] = _quantized_input(graph, value)
        if name not in stored:
            stored[name] = _stored_weight(graph, layer, weights[name])
        _replace(graph, layer, inputs[value], *stored[name])
        if not layer.weight.uses():
            graph.initializers.pop(name, None)
    return {name: sum(_bytes(value) for value in pair) for name, pair in stored.items()}


def _quantized_input(graph: ir.Graph, value: ir.Value) -> list[ir.Value]:
    """Integers, scale and zero point of a value, computed at run time."""
    node = ir.Node("", "DynamicQuantizeLinear", [value], name=f"{value.name}.quantize", num_outputs=3)
    integers, scale, zero = node.outputs
    integers.name, integers.shape = f"{value.name}.quantized", value.shape
    integers.type = ir.TensorType(ir.DataType.UINT8)
    scale.name, scale.shape, scale.type = (
        f"{value.name}.scale",
        ir.Shape(()),
        ir.TensorType(ir.DataType.FLOAT),
    )
    zero.name, zero.shape, zero.type = f"{value.name}.zero", ir.Shape(()), ir.TensorType(ir.DataType.UINT8)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return [integers, scale, zero]


def _stored_weight(graph: ir.Graph, layer: Layer, rounded: Rounded) -> tuple[ir.Value, ir.Value]:
    """Integers [K, N] or [O, I, ...], and scales that broadcast against the layer's results."""
    name, integers, scale = str(layer.weight.name), rounded.integers, rounded.grid.scale
    if layer.node.op_type == "Conv":
        scale = scale.reshape(-1, *[1] * (integers.ndim - 2)) if scale.shape else scale
    else:
        integers = np.ascontiguousarray(integers.T)
    return (
        add_initializer(graph, f"{name}.quantized", integers),
        add_initializer(graph, f"{name}.scale", np.ascontiguousarray(scale)),
    )


def _replace(
    graph: ir.Graph, layer: Layer, read: Sequence[ir.Value], weight: ir.Value, scale: ir.Value
) -> None:
    old = layer.node
    label, result = str(old.name), old.outputs[0]
    operator = "ConvInteger" if old.op_type == "Conv" else "MatMulInteger"
    attributes = [a for a in old.attributes.values() if operator == "ConvInteger"]
    sums = _node(
        operator, [read[0], weight, read[2]], f"{label}.integer", ir.DataType.INT32, result, attributes
    )
    cast = ir.AttrInt64("to", ir.DataType.FLOAT)
    floats = _node("Cast", [sums.outputs[0]], f"{label}.cast", ir.DataType.FLOAT, result, [cast])
    factor = ir.Node("", "Mul", [read[1], scale], name=f"{label}.factor", num_outputs=1)
    factor.outputs[0].name, factor.outputs[0].shape = f"{label}.factor", scale.shape
    factor.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    nodes = [sums, floats, factor]
    nodes.append(_node("Mul", [floats.outputs[0], factor.outputs[0]], f"{label}.scaled", None, result))
    bias = old.inputs[_BIAS] if len(old.inputs) > _BIAS else None
    if bias is not None:
        nodes.append(_node("Add", [nodes[-1].outputs[0], _spread(graph, layer, bias)], label, None, result))
    ir.convenience.replace_nodes_and_values(graph, old, [old], nodes, [result], nodes[-1].outputs)
    if bias is not None and bias.is_initializer() and not bias.uses() and not bias.is_graph_output():
        graph.initializers.pop(str(bias.name), None)


def _node(
    operator: str,
    inputs: Sequence[ir.Value],
    name: str,
    dtype: ir.DataType | None,
    result: ir.Value,
    attributes: Sequence[ir.Attr] = (),
) -> ir.Node:
    """One output of the shape of `result`."""
    node = ir.Node("", operator, inputs, attributes, name=name, num_outputs=1)
    output = node.outputs[0]
    output.name, output.shape = name, result.shape
    output.type = ir.TensorType(dtype or ir.DataType.FLOAT)
    return node


def _spread(graph: ir.Graph, layer: Layer, bias: ir.Value) -> ir.Value:
    """The bias of a convolution, [O], as [O, 1, 1]; that of a Gemm broadcasts as it is."""
    if layer.node.op_type != "Conv":
        return bias
    assert bias.const_value is not None
    array = bias.const_value.numpy()
    rank = len(layer.weight.shape or ())
    return add_initializer(graph, f"{layer.node.name}.bias", array.reshape(-1, *[1] * (rank - 2)))


def _bytes(value: ir.Value) -> int:
    return value.const_value.nbytes if value.const_value is not None else 0
