"""Q and DQ nodes are put into a graph.

    x ---------------------> Conv(x, W, b)
    x -> Quantize -> Dequantize -> Conv(x', Dequantize(W8), Dequantize(b32))

W8 is int8 on a grid for each output, b32 int32 in steps of x's scale times W8's.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..layer_bias import takes_bias
from ..layers import Layer
from .grid import Grid

__all__ = ["add_initializer", "quantize_bias", "quantize_value", "store_integers"]

Array = npt.NDArray[np.generic]
_BIAS = 2


def quantize_value(
    graph: ir.Graph, value: ir.Value, readers: Collection[tuple[ir.Node, int]], grid: Grid, grid_name: str
) -> None:
    """`readers` read `value` from the integers of `grid`, whose initializers are called after `grid_name`."""
    parameters = _grid_values(graph, grid, grid_name)
    name = str(value.name)
    quantize = ir.Node("", "QuantizeLinear", [value, *parameters], name=f"{name}.quantize", num_outputs=1)
    integers = quantize.outputs[0]
    integers.name, integers.shape = f"{name}.quantized", value.shape
    integers.type = ir.TensorType(ir.DataType[grid.dtype.upper()])
    restore = ir.Node(
        "", "DequantizeLinear", [integers, *parameters], name=f"{name}.dequantize", num_outputs=1
    )
    result = restore.outputs[0]
    result.name, result.shape = f"{name}.dequantized", value.shape
    result.type = ir.TensorType(ir.DataType.FLOAT)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], [quantize, restore])
    else:
        graph.insert_after(producer, [quantize, restore])
    for node, index in readers:
        node.replace_input_with(index, result)


def store_integers(graph: ir.Graph, layer: Layer, integers: npt.NDArray[np.int8], grid: Grid) -> int:
    """All readers of the layer's weight read it from `integers`, outputs first; returns bytes stored."""
    old = layer.weight
    name = str(old.name)
    axis = 0 if layer.rows_are_outputs else 1
    stored = add_initializer(graph, f"{name}.quantized", np.ascontiguousarray(layer.outputs_first(integers)))
    parameters = _grid_values(graph, grid, name)
    result = _dequantize(graph, stored, parameters, axis, name)
    for use in list(old.uses()):
        if use.node is not result.producer():
            use.node.replace_input_with(use.idx, result)
    graph.initializers.pop(name)
    result.name = name
    return integers.nbytes + sum(value.const_value.nbytes for value in parameters if value.const_value)


def quantize_bias(graph: ir.Graph, layer: Layer, x_scale: float, w_scale: npt.NDArray[np.float32]) -> bool:
    """The layer's bias in int32, in steps of x's scale times W's; false where it has no constant one."""
    node = layer.node
    bias = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
    if bias is None or bias.const_value is None or not takes_bias(layer):
        return False
    scale = np.asarray(np.float32(x_scale) * w_scale, np.float32)
    steps = np.rint(bias.const_value.numpy().astype(np.float64) / scale)
    name = f"{node.name}.bias"
    limits = np.iinfo(np.int32)
    whole = np.clip(steps, limits.min, limits.max).astype(np.int32)
    stored = add_initializer(graph, f"{name}.quantized", whole)
    scales = add_initializer(graph, f"{name}.scale", scale)
    result = _dequantize(graph, stored, [scales], 0, f"{name}.dequantized")
    node.replace_input_with(_BIAS, result)
    if not bias.uses() and not bias.is_graph_output():
        graph.initializers.pop(str(bias.name), None)
    return True


def _dequantize(
    graph: ir.Graph, stored: ir.Value, parameters: list[ir.Value], axis: int, name: str
) -> ir.Value:
    per_channel = bool(parameters[0].shape)
    attributes = [ir.AttrInt64("axis", axis)] if per_channel else []
    node = ir.Node(
        "", "DequantizeLinear", [stored, *parameters], attributes, name=f"{name}.dequantize", num_outputs=1
    )
    graph.insert_before(graph[0], node)
    result = node.outputs[0]
    result.name, result.shape, result.type = name, stored.shape, ir.TensorType(ir.DataType.FLOAT)
    return result


def _grid_values(graph: ir.Graph, grid: Grid, name: str) -> list[ir.Value]:
    """Initializers of a grid; those that are there already are used again."""
    found = []
    for part, array in (("scale", grid.scale), ("zero_point", grid.zero_point)):
        old = graph.initializers.get(f"{name}.{part}")
        tensor = old.const_value if old is not None else None
        same = tensor is not None and tensor.numpy().dtype == array.dtype and np.array_equal(tensor, array)
        found.append(old if same and old is not None else add_initializer(graph, f"{name}.{part}", array))
    return found


def add_initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A constant of a name that nobody has yet."""
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
