"""What a QuantizeLinear or DequantizeLinear says: scale, zero point, the axis they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from .writing import constant_of

__all__ = ["Parameters", "is_dequantize", "is_quantize", "parameters_of"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Parameters:
    """`axis` counts from the front; it is 0 where one scale is all there is. `dtype` is the integers'."""

    scale: ir.Value
    zero: ir.Value | None
    axis: int
    block: int
    dtype: ir.DataType

    @property
    def per_tensor(self) -> bool:
        """Whether one scale is all there is."""
        return (
            not self.block
            and self.scale.shape is not None
            and self.scale.shape.is_static()
            and _one(self.scale)
        )

    def values(self) -> tuple[Array, Array] | None:
        """Scale and zero point as arrays of one shape; None where they are known only at run time."""
        scale = constant_of(self.scale)
        zero = np.zeros((), np.int32) if self.zero is None else constant_of(self.zero)
        if scale is None or zero is None:
            return None
        if self.zero is None:
            zero = np.zeros(scale.shape, np.int32)
        return scale, zero

    def equals(self, other: Parameters) -> bool:
        """Whether integers mean the same by both."""
        if self.dtype != other.dtype or self.block != other.block or self.per_tensor != other.per_tensor:
            return False
        if not self.per_tensor and self.axis != other.axis:
            return False
        if self.scale is other.scale and self.zero is other.zero:
            return True
        mine, theirs = self.values(), other.values()
        if mine is None or theirs is None:
            return False
        return all(_same(a, b) for a, b in zip(mine, theirs, strict=True))


def _one(value: ir.Value) -> bool:
    return value.shape is not None and all(size == 1 for size in value.shape)


def _same(a: Array, b: Array) -> bool:
    flat = a.reshape(-1), b.reshape(-1)
    return a.size == b.size and bool((flat[0].astype(np.float64) == flat[1].astype(np.float64)).all())


def is_quantize(node: ir.Node | None) -> bool:
    """Whether `node` is ONNX's QuantizeLinear."""
    return node is not None and node.op_type == "QuantizeLinear" and node.domain in ("", "ai.onnx")


def is_dequantize(node: ir.Node | None) -> bool:
    """Whether `node` is ONNX's DequantizeLinear."""
    return node is not None and node.op_type == "DequantizeLinear" and node.domain in ("", "ai.onnx")


def parameters_of(node: ir.Node | None) -> Parameters | None:
    """Those of a Q or DQ node; None for other nodes, and where types or shapes are not known."""
    if node is None or not (is_quantize(node) or is_dequantize(node)):
        return None
    x, scale, zero = (*node.inputs, None)[:3]
    if x is None or scale is None or scale.shape is None:
        return None
    dtype = _integer_type(node, x, zero)
    rank = None if x.shape is None else len(x.shape)
    axis = node.attributes.get_int("axis", 1)
    block = node.attributes.get_int("block_size", 0)
    if not block and _one(scale):
        axis = 0
    elif rank is None:
        return None
    else:
        axis = axis + rank if axis < 0 else axis
    return None if dtype is None else Parameters(scale, zero, axis, block, dtype)


def _integer_type(node: ir.Node, x: ir.Value, zero: ir.Value | None) -> ir.DataType | None:
    if is_dequantize(node):
        return x.dtype
    if zero is not None:
        return zero.dtype
    given = node.attributes.get_int("output_dtype", 0)
    return ir.DataType(given) if given else ir.DataType.UINT8
