"""Reading back how weights are stored: the formats and parts behind a value, and its array."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gossamer.kernels.formats import DOMAIN
from gossamer.kernels.formats.base import Array, format_of_operator
from gossamer.kernels.quantization import dequantize_linear

from .storing import Stored

__all__ = ["array_of", "stored_in"]


def stored_in(value: ir.Value) -> Stored | None:
    """What `value`, or that which it is the transpose of, is decoded from; None where no format stores it.

    Of a transpose, `decode` gives the array before it: outputs first.
    """
    producer = value.producer()
    if producer is not None and producer.op_type == "Transpose" and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    if producer is None or producer.domain != DOMAIN:
        return None
    kind = format_of_operator(producer.op_type)
    if kind is None:
        return None
    parts = dict[str, Array | Stored]()
    for name, part in zip(kind.parts, producer.inputs, strict=False):
        if part is None:
            continue
        inner = stored_in(part)
        if inner is None and part.const_value is None:
            return None
        parts[name] = inner if inner is not None else part.const_value.numpy()  # type: ignore[union-attr]
    return Stored(kind.name, parts)


def array_of(value: ir.Value) -> tuple[Array, int] | None:
    """What `value` is and the bytes of all constants behind it; None where it does not follow from constants.

    It may be decoded by formats or DequantizeLinear, turned, or put into another shape.
    """
    if value.const_value is not None:
        return value.const_value.numpy(), value.const_value.nbytes
    if (stored := stored_in(value)) is not None and _calls(value):
        return stored.decode(), stored.nbytes
    node = value.producer()
    if (
        node is None
        or node.domain
        or node.op_type not in ("Transpose", "Reshape", "Cast", "DequantizeLinear")
    ):
        return None
    given = [array_of(part) for part in node.inputs if part is not None]
    known = [part for part in given if part is not None]
    if len(known) < len(given):
        return None
    arrays = [array for array, _ in known]
    return _computed(node, arrays), sum(nbytes for _, nbytes in known)


def _calls(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.domain == DOMAIN


def _computed(node: ir.Node, arrays: list[Array]) -> Array:
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm")
        return np.transpose(arrays[0], tuple(perm.as_ints()) if perm is not None else None)
    if node.op_type == "Reshape":
        return arrays[0].reshape(arrays[1])
    if node.op_type == "Cast":
        return arrays[0].astype(np.float32)
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    zero = arrays[2] if len(arrays) > 2 else None
    return dequantize_linear(arrays[0], arrays[1], zero, axis=axis, block_size=block)
