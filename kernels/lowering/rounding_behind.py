"""The QuantizeLinear that alone reads a value: a rule that computes in integers may do its work."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..cpu.lazy import Elementwise, Fill, Lazy
from ..cpu.pixel_layout import IMAGE_TYPES
from ..quantization import integer_range
from .scopes import read_elsewhere
from .state import Lowering

__all__ = ["RoundingBehind", "rounding_behind"]


class RoundingBehind:
    """`node` rounds to bytes of `dtype` with one scale."""

    def __init__(self, node: ir.Node, scale: float, zero_point: int, dtype: str) -> None:
        self.node, self.scale, self.zero_point, self.dtype = node, scale, zero_point, dtype

    def of(self, value: Lazy) -> Elementwise:
        """The rounding of a value."""
        low, high = integer_range(self.dtype)
        args = (value, Fill(self.scale, "float32"), Fill(self.zero_point, "int32"))
        return Elementwise("Quantize", args, self.dtype, (("high", high), ("low", low)))

    def absorb(self, state: Lowering, result: Lazy) -> None:
        """States that `result` is what the node computes."""
        state.integer_nodes.add(self.node)
        state.absorbed.add(self.node)
        state.define(self.node.outputs[0], result)


def rounding_behind(state: Lowering, value: ir.Value) -> RoundingBehind | None:
    """The value's only reader, if it is such a node."""
    uses = list(value.uses())
    if len(uses) != 1 or read_elsewhere(value) or uses[0].node.op_type != "QuantizeLinear":
        return None
    node = uses[0].node
    result = node.outputs[0]
    given = [v for v in node.inputs[1:3] if v is not None]
    known = [array for v in given if (array := state.constant(v)) is not None and array.size == 1]
    dtype = result.dtype.name.lower() if result.dtype is not None else ""
    if dtype not in IMAGE_TYPES or len(known) < len(given) or uses[0].idx != 0:
        return None
    zero = known[1] if len(known) > 1 else np.zeros(1, np.int32)
    return RoundingBehind(node, float(known[0].reshape(-1)[0]), int(zero.reshape(-1)[0]), dtype)
