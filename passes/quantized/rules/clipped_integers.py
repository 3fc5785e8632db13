"""Clip of integers goes before QuantizeLinear, where kernels do it with the floats they have in registers.

PyTorch writes 7-bit ranges as Q → Clip → DQ. Clip(Q(y), a, b) = Q(Clip(y, DQ(a), DQ(b))), since Q never
decreases and Q(DQ(a)) = a.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gossamer.kernels.quantization import dequantize_linear, integer_range

from ..canonical import looks_at
from ..parameters import is_quantize, parameters_of
from ..writing import Writer, constant_of, drop_unread

__all__ = ["clip_before_quantizing"]


@looks_at("Clip")
def clip_before_quantizing(node: ir.Node) -> str:
    """For one scale, and a QuantizeLinear that nothing else reads."""
    quantizer = node.inputs[0].producer() if node.inputs[0] is not None else None
    given = parameters_of(quantizer) if is_quantize(quantizer) else None
    if quantizer is None or given is None or not given.per_tensor or quantizer.inputs[0] is None:
        return ""
    known, value = given.values(), quantizer.outputs[0]
    if known is None or len(value.uses()) != 1 or value.is_graph_output() or not given.dtype.is_integer():
        return ""
    ends = list[np.ndarray]()
    for index, default in enumerate(integer_range(given.dtype.name.lower()), 1):
        stated = node.inputs[index] if len(node.inputs) > index else None
        end = np.asarray(default) if stated is None else constant_of(stated)
        if end is None or end.size != 1:
            return ""
        ends.append(end.reshape(()))
    writer = Writer(node)
    scale, zero = (array.reshape(()) for array in known)
    floats = [writer.constant(f"limit{i}", dequantize_linear(end, scale, zero)) for i, end in enumerate(ends)]
    clipped = writer.add("Clip", [quantizer.inputs[0], *floats], name=node.name or "")
    clipped.shape, clipped.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
    writer.give(writer.quantize(clipped, given.scale, given.zero, name=quantizer.name or ""))
    drop_unread(quantizer)
    return "done before the values are quantised"
