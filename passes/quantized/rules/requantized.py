"""Q(DQ(x)) is x, where both have the same parameters."""

from __future__ import annotations

import onnx_ir as ir

from ..canonical import looks_at
from ..parameters import is_dequantize, parameters_of
from ..writing import Writer, drop_unread

__all__ = ["drop_pairs"]


@looks_at("QuantizeLinear")
def drop_pairs(node: ir.Node) -> str:
    """(x - z) * s is rounded on the way there and back, by far less than half a step of up to 16 bits."""
    given = node.inputs[0]
    before = given.producer() if given is not None else None
    if before is None or not is_dequantize(before) or before.inputs[0] is None:
        return ""
    mine, theirs = parameters_of(node), parameters_of(before)
    if mine is None or theirs is None or not mine.equals(theirs) or not mine.dtype.is_integer():
        return ""
    Writer(node).give(before.inputs[0])
    drop_unread(before)
    return "reads a DequantizeLinear of the same parameters: both go"
