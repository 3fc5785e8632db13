"""Q goes before what moves data: Q(move(y)) = move(Q(y)), so that it comes to the node that computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gossamer.kernels.quantization import quantize_linear

from ..canonical import looks_at
from ..moving import data_inputs, movement_of
from ..parameters import Parameters, is_quantize, parameters_of
from ..writing import Refused, Writer, constant_of, drop_unread

__all__ = ["move_quantizer"]


@looks_at("QuantizeLinear")
def move_quantizer(node: ir.Node) -> str:
    """All results of the movement must be quantised, by equal parameters, and read by nothing else."""
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    movement, given = movement_of(source), parameters_of(node)
    if source is None or movement is None or given is None or source.graph is not node.graph:
        return ""
    if not given.per_tensor or given.dtype not in movement.types:
        raise Refused(f"stays behind {source.op_type} {source.name}, which has no form for its integers")
    if movement.ordered and given.values() is None:
        raise Refused(f"stays behind {source.op_type} {source.name}: its scale may be negative")
    quantizers = [_quantizer(value, given) for value in source.outputs]
    inputs = list(source.inputs)
    writer = Writer(source)
    if source.op_type == "Pad" and source.attributes.get_string("mode", "constant") == "constant":
        inputs = _padded(writer, inputs, given)
    for index, value in enumerate(data_inputs(source, movement)):
        name = f"{node.name}_{index}" if index else node.name or ""
        inputs[index] = writer.quantize(value, given.scale, given.zero, name=name)
    result = writer.add(
        source.op_type, inputs, writer.attributes(), name=source.name or "", outputs=len(source.outputs)
    )
    moved = result.producer()
    assert moved is not None
    for quantizer, value in zip(quantizers, moved.outputs, strict=True):
        value.shape, value.type = quantizer.outputs[0].shape, ir.TensorType(given.dtype)
        Writer(quantizer).give(value)
    drop_unread(source)
    return f"comes before {source.op_type} {source.name}, which moves {given.dtype.name.lower()} now"


def _quantizer(value: ir.Value, given: Parameters) -> ir.Node:
    """The one node that reads a result."""
    readers = [use.node for use in value.uses()]
    if len(readers) != 1 or value.is_graph_output() or not is_quantize(readers[0]):
        raise Refused("stays behind a node that moves data, since others read the floats too")
    found = parameters_of(readers[0])
    if found is None or not found.equals(given) or readers[0].inputs[0] is not value:
        raise Refused("stays behind a node whose results are quantised differently")
    return readers[0]


def _padded(writer: Writer, inputs: list[ir.Value | None], given: Parameters) -> list[ir.Value | None]:
    """What the value padded with becomes when it is quantised: exact for any value."""
    stated = inputs[2] if len(inputs) > 2 else None
    value = np.zeros((), np.float32) if stated is None else constant_of(stated)
    known = given.values()
    if value is None or known is None or value.size != 1:
        raise Refused("stays behind a Pad whose value is known only at run time")
    scale, zero = (array.reshape(()) for array in known)
    integer = quantize_linear(value.reshape(()), scale, zero, dtype=given.dtype.name.lower())
    return [*inputs[:2], writer.constant("value", integer), *inputs[3:]]
