"""What moves data moves integers: move(DQ(x)) = DQ(move(x)), so that DQ comes to the node that computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from gossamer.kernels.quantization import dequantize_linear, quantize_linear

from ..canonical import looks_at
from ..moving import Movement, data_inputs, movement_of
from ..parameters import Parameters, is_dequantize, parameters_of
from ..writing import Refused, Writer, constant_of, drop_unread
from .moved_constants import is_turned_constant

__all__ = ["move_integers"]


@looks_at()
def move_integers(node: ir.Node) -> str:
    """All data must come from DequantizeLinear of equal parameters that only this node reads."""
    movement = movement_of(node)
    if movement is None or is_turned_constant(node):
        return ""
    sources = [value.producer() for value in data_inputs(node, movement)]
    if not any(is_dequantize(source) for source in sources):
        return ""
    given = _common([parameters_of(source) for source in sources])
    if given.dtype not in movement.types:
        raise Refused(f"it has no form for {given.dtype.name.lower()}")
    if movement.ordered and given.values() is None:
        raise Refused("its scale, known only at run time, may be negative")
    moved = _moved_parameters(node, movement, given)
    before = [source for source in sources if source is not None]
    _move(Writer(node), before, given, moved)
    for source in dict.fromkeys(before):
        drop_unread(source)
    return f"moves {given.dtype.name.lower()} now, and DequantizeLinear comes after it"


def _common(found: list[Parameters | None]) -> Parameters:
    first = found[0]
    if first is None or not all(p is not None and first.equals(p) for p in found):
        raise Refused("not all that it moves was quantised by the same parameters")
    return first


def _moved_parameters(node: ir.Node, movement: Movement, given: Parameters) -> Parameters:
    """The axis of the scales may have changed its place."""
    if given.per_tensor:
        return given
    axis = None if given.block else movement.axis(node, given.axis)
    if axis is None:
        raise Refused(f"scales along axis {given.axis} do not follow what it moves")
    return replace(given, axis=axis)


def _move(writer: Writer, sources: list[ir.Node], given: Parameters, moved: Parameters) -> None:
    node = writer.node
    inputs = [*(source.inputs[0] for source in sources), *node.inputs[len(sources) :]]
    if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "constant":
        inputs = _padded(writer, inputs, given)
    first = writer.add(
        node.op_type, inputs, writer.attributes(), name=node.name or "", outputs=len(node.outputs)
    )
    results = []
    for index, (old, new) in enumerate(zip(node.outputs, _outputs(first), strict=True)):
        new.shape, new.type = old.shape, ir.TensorType(given.dtype)
        label = f"{sources[0].name}_{index}" if index else sources[0].name or ""
        results.append(writer.dequantize(new, moved.scale, moved.zero, moved.axis, name=label))
    writer.give(*results)


def _outputs(first: ir.Value) -> list[ir.Value]:
    producer = first.producer()
    assert producer is not None
    return list(producer.outputs)


def _padded(writer: Writer, inputs: list[ir.Value | None], given: Parameters) -> list[ir.Value | None]:
    """The integer that stands for the value padded with."""
    stated = inputs[2] if len(inputs) > 2 else None
    value = np.zeros((), np.float32) if stated is None else constant_of(stated)
    known = given.values()
    if value is None or known is None or value.size != 1:
        raise Refused("what it pads with is known only at run time")
    scale, zero = (array.reshape(()) for array in known)
    integer = quantize_linear(value.reshape(()), scale, zero, dtype=given.dtype.name.lower())
    if dequantize_linear(integer, scale, zero) != value.reshape(()):
        raise Refused(f"no integer stands for {value.item():g}, which it pads with")
    rest = inputs[3:]
    return [inputs[0], inputs[1], writer.constant("value", integer), *rest]
