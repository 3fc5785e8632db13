"""Attention and MultiHeadAttention."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from ..attending import Heads, attend, causal, joined_heads, padding_mask, split_heads
from ..expansion import Expansion, Refused
from ..registry import expands

_FILTER = -10000.0
Results = list[ir.Value | None]


@expands("Attention")
def expand_attention(w: Expansion) -> Results:
    """Products with the weights of queries, keys and values; `past` and `present` are (2, B, N, P, D)."""
    w.refuse_inputs(6)
    weights = w.needed(1)

    def project(start: int, end: int) -> ir.Value:
        return _projected(w, w.needed(0), w.sliced(weights, 1, start, end), start, end)

    return _attention(w, project, w.number_of(weights, 1), w.input(3), w.input(4), w.input(5))


@expands("QAttention")
def expand_quantized_attention(w: Expansion) -> Results:
    """The same of quantised operands: DequantizeLinear before the products; scales may be per column."""
    source = w.dequantize(w.needed(0), w.needed(3), w.input(6))
    weights, scale, zero = w.needed(1), w.needed(4), w.input(7)

    def project(start: int, end: int) -> ir.Value:
        own = _columns(w, scale, start, end)
        points = None if zero is None else _columns(w, zero, start, end)
        part = w.dequantize(w.sliced(weights, 1, start, end), own, points, axis=1)
        return _projected(w, source, part, start, end)

    return _attention(w, project, w.number_of(weights, 1), w.input(5), w.input(8), None)


def _columns(w: Expansion, value: ir.Value, start: int, end: int) -> ir.Value:
    """The part of a vector that belongs to columns; what is one value belongs to all."""
    single = w.rank(value) == 0 or w.size(value, 0) == 1
    return value if single else w.sliced(value, 0, start, end)


def _attention(
    w: Expansion,
    project: Callable[[int, int], ir.Value],
    total: int,
    padding: ir.Value | None,
    past: ir.Value | None,
    bias: ir.Value | None,
) -> Results:
    """`project(first, last + 1)` gives columns of the products of input 0 with all `total` weights."""
    if w.flag("do_rotary") or w.flag("past_present_share_buffer"):
        raise Refused("rotary embeddings and shared buffers of Attention have no form here")
    heads = w.node.attributes.get_int("num_heads", 1)
    attribute = w.node.attributes.get("qkv_hidden_sizes")
    sizes = list(attribute.as_ints()) if attribute is not None else [total // 3] * 3
    ends = pairwise(np.cumsum([0, *sizes]).tolist())
    query, key, value = (split_heads(w, project(start, end), heads) for start, end in ends)
    steps = w.size_of(w.needed(0), 1)
    if past is not None:
        before = [w.op("Squeeze", w.sliced(past, 0, i, i + 1), w.integers(0)) for i in (0, 1)]
        key, value = w.joined(2, before[0], key), w.joined(2, before[1], value)
    present = None
    if w.wanted(1):
        present = w.joined(0, *(w.op("Unsqueeze", v, w.integers(0)) for v in (key, value)))
    earlier = None if past is None else w.size_of(past, 3)
    mask = _mask(w, padding, bias, steps, _added(w, earlier, steps))
    found = Heads(query, key, value, sizes[0] // heads, w.node.attributes.get_float("scale", 0.0))
    return [joined_heads(w, attend(w, found, mask)), present]


@expands("MultiHeadAttention")
def expand_multi_head(w: Expansion) -> Results:
    """Queries, keys and values apart, or packed as (B, S, N, 3, D) and (B, T, N, 2, D)."""
    w.refuse_inputs(8, 9)
    w.refuse_outputs(3)
    heads = w.node.attributes.get_int("num_heads", 1)
    query, key, value = _biased(w, *_unpacked(w, heads))
    width = _width(w, heads)
    pasts = (w.input(6), w.input(7))
    keys = _keys(w)
    for i, past in enumerate(pasts):
        if past is not None:
            joined = w.joined(2, past, (key, value)[i])
            key, value = (joined, value) if i == 0 else (key, joined)
    total = keys if pasts[0] is None else _added(w, w.size_of(pasts[0], 2), keys)
    mask = _mask(w, w.input(4), w.input(5), w.size_of(w.needed(0), 1), total)
    found = Heads(query, key, value, width, w.node.attributes.get_float("scale", 0.0))
    return [joined_heads(w, attend(w, found, mask)), key, value]


def _projected(w: Expansion, source: ir.Value, weights: ir.Value, start: int, end: int) -> ir.Value:
    """The product with columns `start` to `end` - 1 of all weights, and their bias."""
    product, bias = w.op("MatMul", source, weights), w.input(2)
    return product if bias is None else w.op("Add", product, w.sliced(bias, 0, start, end))


def _added(w: Expansion, earlier: ir.Value | None, size: ir.Value) -> ir.Value:
    return size if earlier is None else w.op("Add", earlier, size)


def _mask(
    w: Expansion, padding: ir.Value | None, bias: ir.Value | None, queries: ir.Value, keys: ir.Value
) -> ir.Value | None:
    """All that is added to the scores."""
    filled = w.node.attributes.get_float("mask_filter_value", _FILTER)
    found = [] if padding is None else [padding_mask(w, padding, keys, filled)]
    found += [] if bias is None else [bias]
    found += [causal(w, queries, keys)] if w.flag("unidirectional") else []
    return w.sum(*found) if found else None


def _unpacked(w: Expansion, heads: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Queries, keys, values as (B, N, S, D)."""
    query, key, value = w.needed(0), w.input(1), w.input(2)
    if w.rank(query) == 5:
        first, second, third = (_picked(w, query, i) for i in range(3))
        return first, second, third
    if key is None:
        raise Refused("it has no keys")
    turned = split_heads(w, query, heads)
    if w.rank(key) == 5:
        return turned, _picked(w, key, 0), _picked(w, key, 1)
    if value is None:
        raise Refused("it has no values")
    if w.rank(key) == 4:
        return turned, key, value
    return turned, split_heads(w, key, heads), split_heads(w, value, heads)


def _picked(w: Expansion, packed: ir.Value, index: int) -> ir.Value:
    """(B, S, N, n, D) → (B, N, S, D) of one index of the fourth axis."""
    return w.transposed(w.op("Squeeze", w.sliced(packed, 3, index, index + 1), w.integers(3)), 0, 2, 1, 3)


def _width(w: Expansion, heads: int) -> int:
    query = w.needed(0)
    return w.number_of(query, -1) // (1 if w.rank(query) == 5 else heads)


def _keys(w: Expansion) -> ir.Value:
    """Keys that are new, as an int64 vector of one element."""
    query, key = w.needed(0), w.input(1)
    if key is None or w.rank(query) == 5:
        return w.size_of(query, 1)
    return w.size_of(key, 2 if w.rank(key) == 4 else 1)


def _biased(w: Expansion, *values: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """With a row added to each: (N · D) for queries, keys and values, one behind the other."""
    bias, heads = w.input(3), w.node.attributes.get_int("num_heads", 1)
    query, key, value = values
    if bias is None:
        return query, key, value
    width, total = _width(w, heads) * heads, w.number_of(bias, 0)
    ends = (0, width, 2 * width, total)
    rows = [w.reshaped(w.sliced(bias, 0, a, b), heads, 1, -1) for a, b in pairwise(ends)]
    query, key, value = (w.op("Add", v, row) for v, row in zip((query, key, value), rows, strict=True))
    return query, key, value
