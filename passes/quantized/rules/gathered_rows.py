"""Rows of a quantised table are gathered as integers, each with its own scale: an embedding stays in bytes.

Gather(DQ(table, scale of each row), i)  =  DQ(Gather(table, i), Gather(scale, i))
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...shapes import static_shape
from ..canonical import looks_at
from ..moving import BYTES
from ..parameters import is_dequantize, parameters_of
from ..writing import Writer, constant_of, drop_unread

__all__ = ["gather_rows"]


@looks_at("Gather")
def gather_rows(node: ir.Node) -> str:
    """For a constant matrix of bytes with a scale for each row; indices of any shape are a list meanwhile."""
    table, indices = node.inputs[0], node.inputs[1]
    source = table.producer() if table is not None else None
    given = parameters_of(source) if is_dequantize(source) else None
    shape = static_shape(node.outputs[0])
    if source is None or given is None or indices is None or shape is None or given.dtype not in BYTES:
        return ""
    array, axis = constant_of(source.inputs[0]), node.attributes.get_int("axis", 0)
    rows = not given.per_tensor and not given.block and given.axis == 0 and axis in (0, -2)
    if array is None or array.ndim != 2 or not rows or given.values() is None:
        return ""
    writer = Writer(node)
    flat = writer.add("Reshape", [indices, writer.constant("list", np.array([-1], np.int64))])
    stored = [source.inputs[0], given.scale, given.zero]
    parts = [
        None if value is None else writer.add("Gather", [value, flat], name=f"{node.name}_{label}")
        for value, label in zip(stored, ("rows", "scales", "zero_points"), strict=True)
    ]
    integers, scale, zero = parts
    assert integers is not None
    assert scale is not None
    integers.shape, integers.type = (
        ir.Shape([int(np.prod(shape[:-1])), shape[-1]]),
        ir.TensorType(given.dtype),
    )
    scale.shape, scale.type = ir.Shape([integers.shape[0]]), ir.TensorType(ir.DataType.FLOAT)
    if zero is not None:
        zero.shape, zero.type = scale.shape, ir.TensorType(given.dtype)
    floats = writer.dequantize(integers, scale, zero, axis=0, name=source.name or "")
    target = writer.constant("shape", np.array(shape, np.int64))
    writer.give(writer.add("Reshape", [floats, target], name=node.name or ""))
    drop_unread(source)
    return f"gathers {given.dtype.name.lower()}, and the scales of its rows"
