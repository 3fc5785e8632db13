"""What a DequantizeLinear says of a value: the integers behind it, and how they become floats.

Rules ask `quantized_of(state, value)`; a rule that computes with the integers calls `take` on it, so that
the ledger does not name the node among those that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .attributes import integer
from .state import Lowering

__all__ = ["Quantized", "quantized_of"]


@dataclass(frozen=True)
class Quantized:
    """`node` is the DequantizeLinear of `integers`; `scale` and `zero_point` are constants.

    One scale, or one for each index of `axis` (`axis` counts from the front), or with `block_size` one for
    each block of the axis. A zero point that the node leaves out is 0.
    """

    node: ir.Node
    integers: ir.Value
    scale: np.ndarray  # float32
    zero_point: np.ndarray  # int32, of the scale's shape
    axis: int
    block_size: int

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1 and not self.block_size

    @property
    def dtype(self) -> str:
        """numpy's (or ml_dtypes') name of the integers' type."""
        assert self.integers.dtype is not None
        return self.integers.dtype.name.lower()

    def take(self, state: Lowering) -> ir.Value:
        """The integers, for a kernel that computes with them; the node is not needed by it."""
        state.integer_nodes.add(self.node)
        return self.integers


def quantized_of(state: Lowering, value: ir.Value | None) -> Quantized | None:
    """How `value` comes from integers; None where it does not, or where scales are known only at run time."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or node.domain not in ("", "ai.onnx"):
        return None
    integers, scale_value = node.inputs[0], node.inputs[1]
    zero_value = node.inputs[2] if len(node.inputs) > 2 else None
    scale = state.constant(scale_value)
    zero = state.constant(zero_value) if zero_value is not None else None
    if integers is None or scale is None or (zero_value is not None and zero is None):
        return None
    zero = np.zeros(scale.shape, np.int32) if zero is None else zero.astype(np.int32)
    rank = len(integers.shape) if integers.shape is not None else 0
    axis = integer(node, "axis", 1)
    axis = axis + rank if axis < 0 else axis
    return Quantized(node, integers, scale.astype(np.float32), zero, axis, integer(node, "block_size", 0))
