"""Reading back what `store_weight` wrote: the formats and parts behind a value."""

from __future__ import annotations

import onnx_ir as ir

from gossamer.kernels.formats import DOMAIN
from gossamer.kernels.formats.base import Array, format_of_operator

from .storing import Stored

__all__ = ["stored_in"]


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
