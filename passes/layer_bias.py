"""The bias of a layer: whether a constant can change it, and changing it.

Conv(x, W)        Conv(x, W, shift)
Gemm(x, W, b)     Gemm(x, W, b + shift)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .layers import Layer

__all__ = ["shift_bias", "takes_bias"]

_BIAS = 2


def takes_bias(layer: Layer) -> bool:
    """Whether `shift_bias` can change what the layer adds to its outputs."""
    node = layer.node
    if node.op_type == "MatMul" or any(
        node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")
    ):
        return False
    given = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
    if given is None:
        return True
    constant = given.const_value is not None and not given.is_graph_input()
    return constant and given.shape is not None and given.shape.numpy() == (_outputs(layer),)


def shift_bias(model: ir.Model, layer: Layer, shift: npt.NDArray[np.float64]) -> None:
    """Add `shift` [O] to the bias of `layer`, or give it one; other readers of an old one keep it."""
    node, tensor = layer.node, layer.weight.const_value
    assert tensor is not None
    assert shift.shape == (_outputs(layer),)
    old = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
    total = shift
    if old is not None:
        assert old.const_value is not None
        total = old.const_value.numpy().astype(np.float64) + shift
    name = f"{node.name}.bias"
    while name in model.graph.initializers:
        name += "_"
    array = total.astype(tensor.numpy().dtype)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=ir.Tensor(array, dtype=tensor.dtype, name=name),
    )
    model.graph.register_initializer(value)
    node.resize_inputs(_BIAS + 1)
    node.replace_input_with(_BIAS, value)
    if old is not None and not old.uses() and not old.is_graph_output():
        model.graph.initializers.pop(str(old.name), None)


def _outputs(layer: Layer) -> int:
    assert layer.weight.shape is not None
    return layer.weight.shape.numpy()[0 if layer.rows_are_outputs else 1]
