"""Which layers stay in float, and why."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..layers import Layer

__all__ = ["ends_in_log", "refusal"]

_LEAST_OPSET = 13  # DequantizeLinear with one scale for each channel
_KEEPING_RATIOS = frozenset(
    [
        *("Mul", "Div", "Sqrt", "Pow", "Abs", "Max", "Add", "Reshape", "Transpose", "Squeeze", "Unsqueeze"),
        *(
            "Clip",
            "Relu",
            "Slice",
            "ReduceSum",
            "ReduceMean",
            "Flatten",
            "Identity",
            "MatMul",
            "Gemm",
            "Conv",
        ),
    ]
)
_FAR = 16  # nodes on the way to a logarithm


def refusal(layer: Layer, model: ir.Model, skip: bool) -> str:
    """Why `layer` is not quantised; empty if it is."""
    if skip:
        return "the recipe skips it"
    if (opset := model.opset_imports.get("", 0)) < _LEAST_OPSET:
        return f"the model is at opset {opset}, scales for each channel need {_LEAST_OPSET}"
    if text := layer.reason_not_constant():
        return text
    tensor, data = layer.weight.const_value, layer.node.inputs[0]
    assert tensor is not None
    if tensor.dtype != ir.DataType.FLOAT or tensor.size == 0:
        return f"its weights are {tensor.dtype.name} {list(tensor.shape)}, not float32"
    if data is None or data.const_value is not None or data.dtype != ir.DataType.FLOAT:
        return "its input is not a float32 value that is computed"
    if layer.node.attributes.get_int("transA", 0):
        return "its input is transposed"
    if not np.isfinite(tensor.numpy()).all():
        return "its weights are not all finite"
    return (
        "the logarithm of its outputs is taken, and that needs small values too" if ends_in_log(layer) else ""
    )


def ends_in_log(layer: Layer) -> bool:
    """Whether a logarithm is taken of what becomes of the outputs, before anything else is made of them.

    Spectra are computed so: they span many powers of ten, of which 256 steps hold two.
    """
    waiting = [(layer.node, 0)]
    seen = {layer.node}
    for node, far in waiting:
        for value in node.outputs:
            for reader in (use.node for use in value.uses()):
                if reader.op_type == "Log" and not reader.domain:
                    return True
                if (
                    reader not in seen
                    and far < _FAR
                    and reader.op_type in _KEEPING_RATIOS
                    and not reader.domain
                ):
                    seen.add(reader)
                    waiting.append((reader, far + 1))
    return False
