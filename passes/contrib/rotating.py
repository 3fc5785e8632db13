"""Rotary position embedding in standard operators.

    (a, b) at position p  →  (a cos θ - b sin θ, b cos θ + a sin θ),   cos θ, sin θ: row p of two tables

a and b are halves of a head, or neighbours where it is interleaved.
"""

from __future__ import annotations

import onnx_ir as ir

from .expansion import Expansion

__all__ = ["rotated"]


def rotated(
    w: Expansion,
    x: ir.Value,
    width: int,
    turned: int,
    positions: ir.Value,
    tables: tuple[ir.Value, ir.Value],
    interleaved: bool,
) -> ir.Value:
    """`x`: (B, N, S, D) of width D, whose first `turned` elements are turned; `positions`: (B or 1, S)."""
    half = turned // 2
    cos, sin = (w.op("Unsqueeze", w.op("Gather", table, positions), w.integers(1)) for table in tables)
    part = x if turned == width else w.sliced(x, 3, 0, turned)
    if interleaved:
        pairs = w.reshaped(part, 0, 0, 0, half, 2)
        first, second = (w.op("Squeeze", w.sliced(pairs, 4, i, i + 1), w.integers(4)) for i in (0, 1))
    else:
        first, second = w.sliced(part, 3, 0, half), w.sliced(part, 3, half, turned)
    left = w.op("Sub", w.op("Mul", first, cos), w.op("Mul", second, sin))
    right = w.op("Add", w.op("Mul", second, cos), w.op("Mul", first, sin))
    if interleaved:
        both = w.joined(4, *(w.op("Unsqueeze", v, w.integers(4)) for v in (left, right)))
        result = w.reshaped(both, 0, 0, 0, -1)
    else:
        result = w.joined(3, left, right)
    return result if turned == width else w.joined(3, result, w.sliced(x, 3, turned, width))
