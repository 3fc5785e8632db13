"""Scaled dot product attention in standard operators, in the form whose kernel the compiler knows.

softmax(scale · q k' + mask) v          q: (B, N, S, D), k: (B, N, T, D), v: (B, N, T, Dv)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import onnx_ir as ir

from .expansion import Expansion, Refused

__all__ = [
    "LOWEST",
    "Heads",
    "attend",
    "causal",
    "hidden_where",
    "joined_heads",
    "padding_mask",
    "split_heads",
]

LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values by head; `scale` None: 1 / √D."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    width: int
    scale: float = 0.0


def split_heads(w: Expansion, value: ir.Value, heads: int) -> ir.Value:
    """(B, S, N · D) → (B, N, S, D)."""
    return w.transposed(w.reshaped(value, 0, 0, heads, -1), 0, 2, 1, 3)


def joined_heads(w: Expansion, value: ir.Value) -> ir.Value:
    """(B, N, S, D) → (B, S, N · D)."""
    return w.reshaped(w.transposed(value, 0, 2, 1, 3), 0, 0, -1)


def attend(w: Expansion, heads: Heads, mask: ir.Value | None, softcap: float = 0.0) -> ir.Value:
    """(B, N, S, Dv); `mask` is added to the scores."""
    scores = scores_of(w, heads, mask, softcap)
    return w.op("MatMul", w.op("Softmax", scores, axis=-1), heads.value)


def scores_of(w: Expansion, heads: Heads, mask: ir.Value | None, softcap: float) -> ir.Value:
    """(B, N, S, T) before the softmax."""
    scores = w.op("MatMul", heads.query, w.transposed(heads.key, 0, 1, 3, 2))
    scale = heads.scale or 1.0 / sqrt(heads.width)
    scores = w.op("Mul", scores, w.constant("scale", np.asarray(scale, np.float32)))
    if softcap:
        cap = w.constant("softcap", np.asarray(softcap, np.float32))
        scores = w.op("Mul", w.op("Tanh", w.op("Div", scores, cap)), cap)
    return scores if mask is None else w.op("Add", scores, mask)


def causal(w: Expansion, queries: ir.Value, keys: ir.Value) -> ir.Value:
    """(S, T) float32: the lowest number where a key comes after its query, of which the last is the last key.

    `queries` and `keys` are S and T, int64 vectors of one element.
    """
    zero, one = w.constant("zero", np.asarray(0, np.int64)), w.constant("one", np.asarray(1, np.int64))
    size, total = w.reshaped_scalar(queries), w.reshaped_scalar(keys)
    row = w.op("Add", w.op("Range", zero, size, one), w.op("Sub", total, size))
    column = w.op("Range", zero, total, one)
    later = w.op("Greater", w.op("Unsqueeze", column, w.integers(0)), w.op("Unsqueeze", row, w.integers(1)))
    return hidden_where(w, later, LOWEST)


def hidden_where(w: Expansion, condition: ir.Value, filled: float) -> ir.Value:
    """float32: `filled` where the condition holds, else 0."""
    low, zero = (w.constant("mask", np.asarray(v, np.float32)) for v in (filled, 0.0))
    return w.op("Where", condition, low, zero)


def padding_mask(w: Expansion, mask: ir.Value, keys: ir.Value, filled: float) -> ir.Value:
    """What a mask adds to scores: (B,) lengths, (2 B,) ends and starts, (B, T) or (B, S, T) of 0 and 1.

    `keys` is T, an int64 vector of one element. Raises Refused for other forms.
    """
    rank = w.rank(mask)
    if rank == 1:
        return _by_lengths(w, mask, keys, filled)
    if rank not in (2, 3):
        raise Refused(f"a mask of rank {rank} has no form here")
    wide = w.op("Unsqueeze", mask, w.integers(*((1, 2) if rank == 2 else (1,))))
    zero = w.constant("zero", np.asarray(0, mask.dtype.numpy() if mask.dtype else np.int32))
    return hidden_where(w, w.op("Equal", wide, zero), filled)


def _by_lengths(w: Expansion, mask: ir.Value, keys: ir.Value, filled: float) -> ir.Value:
    batch = w.size(w.needed(0), 0)
    count = w.size(mask, 0)
    zero, one = w.constant("zero", np.asarray(0, np.int32)), w.constant("one", np.asarray(1, np.int32))
    total = w.op("Cast", w.reshaped_scalar(keys), to=int(ir.DataType.INT32))
    place = w.reshaped(w.op("Range", zero, total, one), 1, 1, 1, -1)
    mask = w.op("Cast", mask, to=int(ir.DataType.INT32))
    if count == batch:
        return hidden_where(w, w.op("GreaterOrEqual", place, w.reshaped(mask, -1, 1, 1, 1)), filled)
    if not isinstance(batch, int) or count != 2 * batch:
        raise Refused("a mask of cumulated lengths has no form here")
    end, start = (w.reshaped(w.sliced(mask, 0, i * batch, (i + 1) * batch), -1, 1, 1, 1) for i in (0, 1))
    outside = w.op("Or", w.op("GreaterOrEqual", place, end), w.op("Less", place, start))
    return hidden_where(w, outside, filled)
