"""What operators meant in old opsets, where no converter tells."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .shapes import infer_shapes

__all__ = ["settle_old_slopes"]

_BROADCAST_OPSET = 7
"""From here on a slope of PRelu broadcasts as numpy has it; before, it is one for each channel."""


def settle_old_slopes(model: ir.Model, start: int) -> None:
    """Give slopes of one for each channel the shape [C, 1, …], in place, in a model of opset `start`."""
    nodes = [node for node in model.graph.all_nodes() if node.op_type == "PRelu"]
    if start >= _BROADCAST_OPSET or not nodes:
        return
    infer_shapes(model)
    for node in nodes:
        x, slope = node.inputs
        if x is not None and slope is not None and x.shape is not None and len(x.shape) > 2:
            _settle(model.graph, node, slope, len(x.shape))


def _settle(graph: ir.Graph, node: ir.Node, slope: ir.Value, rank: int) -> None:
    array = None if slope.const_value is None else slope.const_value.numpy()
    if array is None or array.ndim != 1 or array.size == 1:
        return
    name = f"{slope.name}_by_channel_{rank}"
    if name not in graph.initializers:
        tensor = ir.Tensor(np.ascontiguousarray(array.reshape(-1, *[1] * (rank - 2))), name=name)
        value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=slope.type, const_value=tensor)
        graph.register_initializer(value)
    node.replace_input_with(1, graph.initializers[name])
