"""What is added to a layer's results, row by row: a sum before which errors can still be made up for.

y = Add(MatMul(x, W), r)        y = Add(Add(Conv(x, W), bias), r)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import onnx_ir as ir

from ..layers import Layer

__all__ = ["reading_residuals", "residual_of"]


def residual_of(layer: Layer) -> ir.Value | None:
    """The value that is added to what the layer gives, and to nothing else; None where there is none."""
    value = layer.node.outputs[0]
    for _ in range(2):  # a bias may come first
        uses = list(value.uses())
        if len(uses) != 1 or uses[0].node.op_type != "Add" or uses[0].node.domain or value.is_graph_output():
            return None
        node = uses[0].node
        other = node.inputs[1 - uses[0].idx]
        if other is None or other is value:
            return None
        if other.const_value is None:
            return other if _alike(other, layer.node.outputs[0]) else None
        value = node.outputs[0]
    return None


def _alike(first: ir.Value, second: ir.Value) -> bool:
    return first.shape is not None and first.shape == second.shape


@contextmanager
def reading_residuals(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Layers that read the residuals of `layers`, for `Calibration.rows`: the rows belong to the same pixels.

    They are in no graph, have the names of `layers`, on which the choice of rows depends, and a window of one
    pixel.
    """
    made = []
    for layer in layers:
        residual = residual_of(layer)
        assert residual is not None
        assert layer.weight.shape is not None
        image = layer.node.op_type == "Conv"
        outputs = int(layer.weight.shape.numpy()[0 if layer.rows_are_outputs else 1])
        weight = ir.Value(
            name="window", shape=ir.Shape([outputs, outputs, *[1] * (len(layer.weight.shape) - 2)])
        )
        node = ir.Node("", "Conv" if image else "MatMul", [residual, weight], name=layer.node.name)
        made.append(replace(layer, node=node, weight=weight, rows_are_outputs=image))
    try:
        yield made
    finally:
        for layer in made:
            layer.node.replace_input_with(0, None)
