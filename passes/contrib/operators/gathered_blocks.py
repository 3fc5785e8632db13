"""GatherBlockQuantized: rows of a table whose elements are integers with a scale for each block."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ..expansion import Array, Expansion, Refused, constant_of
from ..registry import expands


@expands("GatherBlockQuantized")
def expand_gathered_blocks(w: Expansion) -> ir.Value:
    """Gather(DequantizeLinear(data), indices); bytes hold two codes, the lower first, or one."""
    attributes = w.node.attributes
    data, scales, zero = w.needed(0), w.needed(2), w.input(3)
    rank = w.rank(data)
    axis = attributes.get_int("quantize_axis", 1) % rank
    if data.dtype == ir.DataType.UINT8:
        data, zero = _unpacked(w, data, scales, zero, attributes.get_int("bits", 4), axis == rank - 1)
    table = w.dequantize(data, scales, zero, axis, attributes.get_int("block_size", 128))
    return w.op("Gather", table, w.needed(1), axis=attributes.get_int("gather_axis", 0))


def _unpacked(
    w: Expansion, data: ir.Value, scales: ir.Value, zero: ir.Value | None, bits: int, last: bool
) -> tuple[ir.Value, ir.Value]:
    """Codes and zero points; the middle of their range where none are given."""
    codes, points = constant_of(data), None if zero is None else constant_of(zero)
    if codes is None or bits not in (4, 8) or not last or (zero is not None and points is None):
        raise Refused("bytes of codes must be constant, 4 or 8 bits along the last axis")
    blocks = scales.shape.numpy() if scales.shape is not None else ()
    if points is None:
        points = np.full(blocks, 1 << (bits - 1), np.uint8)
    elif bits == 4:
        points = _nibbles(points)[..., : blocks[-1]]
    kind = ml_dtypes.uint4 if bits == 4 else np.uint8
    codes = _nibbles(codes) if bits == 4 else codes
    return w.constant("codes", codes.astype(kind)), w.constant("zero_points", points.astype(kind))


def _nibbles(packed: Array) -> Array:
    """(…, n) bytes → (…, 2 n), the lower four bits first."""
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)
