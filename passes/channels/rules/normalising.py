"""Norms and softmax: sums have no order, and parameters keep that of the elements they belong to."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..axes import Ties, size_of
from ..registry import ties
from .elementwise import broadcast
from .operands import all_axes, given, rank

__all__: list[str] = []


@ties("BatchNormalization")
def _batch_norm(node: ir.Node, found: Ties) -> None:
    if node.attributes.get_int("training_mode", 0):
        return
    data, result = given(node)[0], node.outputs[0]
    _keep(found, data, result)
    if rank(data) > 1:
        found.same((data, 1), *((value, 0) for value in given(node)[1:]))


def _keep(found: Ties, data: ir.Value, result: ir.Value) -> None:
    """All axes of the result are those of the data."""
    for one, two in zip(all_axes(data), all_axes(result), strict=True):
        found.same(one, two)


@ties("InstanceNormalization")
def _instance_norm(node: ir.Node, found: Ties) -> None:
    _batch_norm(node, found)


@ties("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _layer_norm(node: ir.Node, found: Ties) -> None:
    if [output for output in node.outputs[1:] if output.uses()]:
        return
    _keep(found, given(node)[0], node.outputs[0])
    broadcast(found, given(node)[1:], node.outputs[0])


@ties("GroupNormalization")
def _group_norm(node: ir.Node, found: Ties) -> None:
    data, scale, shift = given(node)[:3]
    channels, groups = size_of((data, 1)), int(node.attributes.get_int("num_groups", 0))
    # before opset 21 there is one scale for each group
    if channels is None or groups < 1 or channels % groups or size_of((scale, 0)) != channels:
        return
    _keep(found, data, node.outputs[0])
    found.same((data, 1), (scale, 0), (shift, 0))
    found.mark((data, 1), np.arange(channels) // (channels // groups))


@ties("Softmax", "LogSoftmax", "MeanVarianceNormalization", "LpNormalization")
def _softmax(node: ir.Node, found: Ties) -> None:
    if _opset(node) >= 13 or node.op_type not in ("Softmax", "LogSoftmax"):
        _keep(found, given(node)[0], node.outputs[0])


def _opset(node: ir.Node) -> int:
    """Softmax flattened its input before opset 13."""
    graph = node.graph
    return graph.opset_imports.get("", 0) if isinstance(graph, ir.Graph) else 0


@ties("QuantizeLinear", "DequantizeLinear")
def _quantize(node: ir.Node, found: Ties) -> None:
    data, *parameters = given(node)
    if any(rank(value) > 1 for value in parameters):
        return
    _keep(found, data, node.outputs[0])
    axis = int(node.attributes.get_int("axis", 1))
    if -rank(data) <= axis < rank(data):
        for value in parameters:
            for own in all_axes(value):
                found.same((data, axis % rank(data)), own)
