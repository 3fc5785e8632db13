"""GroupQueryAttention: groups of query heads share keys and values, which are kept from run to run.

New keys of row b are put behind its own past: at seqlens_k[b] + 1 - S, or at 0 when S is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..attending import LOWEST, Heads, attend, hidden_where, joined_heads, split_heads
from ..expansion import Expansion, Refused, constant_of
from ..registry import expands
from ..rotating import rotated

_LEFT_OUT = range(11, 17)
"""Inputs without a form here: sinks, scales of quantised caches, norms of queries and keys, lengths."""


@dataclass(frozen=True)
class _Sizes:
    """`steps` (1,) int64: S; `past` (B, 1) int64: how many keys of each row are from earlier runs."""

    heads: int
    groups: int  # heads of keys and values
    width: int
    steps: ir.Value
    past: ir.Value


@expands("GroupQueryAttention")
def expand_group_query(w: Expansion) -> list[ir.Value | None]:
    """Attention with a cache of keys and values, a causal mask, and rotary positions where asked for."""
    _refuse_options(w)
    heads, groups = (w.node.attributes.get_int(name, 0) for name in ("num_heads", "kv_num_heads"))
    query, key, value, width = _projections(w, heads, groups)
    steps = w.size_of(w.needed(0), 1)
    sizes = _Sizes(heads, groups, width, steps, _past_lengths(w, steps))
    query, key, value = (split_heads(w, v, n) for v, n in ((query, heads), (key, groups), (value, groups)))
    if w.flag("do_rotary"):
        query, key = _with_positions(w, sizes, query, key)
    key, value = (_with_past(w, sizes, w.input(3 + i), v, i) for i, v in enumerate((key, value)))
    mask = _mask(w, sizes, w.op("Shape", key, start=2, end=3))
    found = Heads(_grouped(w, sizes, query), key, value, width, w.node.attributes.get_float("scale", 0.0))
    result = attend(w, found, mask, w.node.attributes.get_float("softcap", 0.0))
    if heads != groups:
        result = w.reshaped(result, 0, heads, -1, width)
    return [joined_heads(w, result), key, value]


def _refuse_options(w: Expansion) -> None:
    w.refuse_inputs(*_LEFT_OUT)
    w.refuse_outputs(3)
    defaults = {
        "smooth_softmax": 0,
        "sliding_window_cache": 0,
        "kv_cache_bit_width": 0,
        "qk_output": 0,
        "causal": 1,
    }
    for name, default in defaults.items():
        value = w.node.attributes.get_int(name, default)
        if value != default and (name, value) != ("smooth_softmax", -1):
            raise Refused(f"its attribute {name} = {value} has no form here")


def _projections(w: Expansion, heads: int, groups: int) -> tuple[ir.Value, ir.Value, ir.Value, int]:
    """Queries, keys and values as (B, S, heads · D), and D; they may come in one."""
    query, key, value = w.needed(0), w.input(1), w.input(2)
    total = w.number_of(query, 2)
    if key is not None and value is not None:
        return query, key, value, total // heads
    width = total // (heads + 2 * groups)
    ends = (0, heads * width, (heads + groups) * width, total)
    first, second, third = (w.sliced(query, 2, ends[i], ends[i + 1]) for i in range(3))
    return first, second, third, width


def _past_lengths(w: Expansion, steps: ir.Value) -> ir.Value:
    """(B, 1) int64."""
    lengths = w.reshaped(w.op("Cast", w.needed(5), to=int(ir.DataType.INT64)), -1, 1)
    after = w.op("Sub", w.op("Add", lengths, w.integers(1)), steps)
    total = w.op("Cast", w.reshaped(w.needed(6), 1), to=int(ir.DataType.INT64))
    return w.op("Where", w.op("Equal", total, steps), w.integers(0), after)


def _counted(w: Expansion, count: ir.Value) -> ir.Value:
    """0, 1, 2 … below `count`, int64."""
    zero, one = (w.constant("number", np.asarray(n, np.int64)) for n in (0, 1))
    return w.op("Range", zero, w.reshaped_scalar(count), one)


def _with_positions(w: Expansion, sizes: _Sizes, *values: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Queries and keys turned by their positions."""
    cos, sin, positions = w.needed(7), w.needed(8), w.input(9)
    if positions is None:
        positions = w.op("Add", sizes.past, w.op("Unsqueeze", _counted(w, sizes.steps), w.integers(0)))
        last = w.op("Sub", w.size_of(cos, 0), w.integers(1))  # rows that are filled up may have none
        positions = w.op("Max", w.op("Min", positions, last), w.integers(0))
    turned, interleaved = 2 * w.number_of(cos, 1), w.flag("rotary_interleaved")
    query, key = (rotated(w, v, sizes.width, turned, positions, (cos, sin), interleaved) for v in values)
    return query, key


def _with_past(w: Expansion, sizes: _Sizes, past: ir.Value | None, new: ir.Value, which: int) -> ir.Value:
    """(B, groups, T, D): what is kept from earlier runs, behind it what is new, then zeros."""
    if past is None:
        return new
    before = w.size_of(past, 2)
    total = _total(w, past, before, sizes.steps, which)
    place = w.op("Unsqueeze", _counted(w, total), w.integers(0))
    behind = w.op("Sub", place, sizes.past)
    zero, last = w.integers(0), w.op("Sub", sizes.steps, w.integers(1))
    within = w.op("Max", w.op("Min", behind, last), zero)
    index = w.op("Where", w.op("Less", behind, zero), place, w.op("Add", within, before))
    index = w.op("Unsqueeze", index, w.integers(1, 3))  # (B, 1, T, 1)
    sizes_of = [w.op("Shape", past, start=0, end=2), total, w.op("Shape", past, start=3, end=4)]
    index = w.op("Expand", index, w.joined(0, *sizes_of))
    kept = w.op("GatherElements", w.joined(2, past, new), index, axis=2)
    empty = w.op("GreaterOrEqual", behind, sizes.steps)
    return w.op("Where", w.op("Unsqueeze", empty, w.integers(1, 3)), w.number(0.0, past), kept)


def _total(w: Expansion, past: ir.Value, before: ir.Value, steps: ir.Value, which: int) -> ir.Value:
    """T, which is the past's size where that is a buffer for all runs, else larger by S."""
    total = constant_of(w.input(6))
    size = w.size(past, 2)
    if total is not None and isinstance(size, int):
        return w.integers(max(size, int(total.reshape(-1)[0])))
    declared = w.node.outputs[1 + which].shape if len(w.node.outputs) > 1 + which else None
    if declared is None:
        raise Refused("neither total_sequence_length nor the shape of its cache is known")
    kept = declared[2] if isinstance(declared[2], int) else declared[2].value
    return before if kept == size and kept is not None else w.op("Add", before, steps)


def _mask(w: Expansion, sizes: _Sizes, total: ir.Value) -> ir.Value:
    """(B or 1, 1 or groups, rows of queries, T), added to the scores."""
    place = w.reshaped(
        w.op("Add", sizes.past, w.op("Unsqueeze", _counted(w, sizes.steps), w.integers(0))), 0, -1, 1
    )
    column = w.reshaped(_counted(w, total), 1, 1, -1)
    hidden = w.op("Greater", column, place)
    window = w.node.attributes.get_int("local_window_size", -1)
    if window > 0:
        early = w.op("LessOrEqual", column, w.op("Sub", place, w.integers(window)))
        hidden = w.op("Or", hidden, early)
    mask = w.op("Unsqueeze", hidden_where(w, hidden, LOWEST), w.integers(1))  # (B, 1, S, T)
    bias = w.input(10)
    if bias is not None:
        mask = w.op("Add", mask, bias)
    if sizes.heads == sizes.groups or (w.size(w.needed(0), 1) == 1 and bias is None):
        return mask
    if bias is not None and w.number_of(bias, 1) != 1:
        return _by_group(w, sizes, mask)
    return w.joined(2, *[mask] * (sizes.heads // sizes.groups))


def _by_group(w: Expansion, sizes: _Sizes, value: ir.Value) -> ir.Value:
    """(B, heads, S, n) → (B, groups, heads / groups · S, n)."""
    last = w.op("Shape", value, start=3, end=4)
    sizes_of = w.joined(0, w.op("Shape", value, start=0, end=1), w.integers(sizes.groups, -1), last)
    return w.op("Reshape", value, sizes_of)


def _grouped(w: Expansion, sizes: _Sizes, query: ir.Value) -> ir.Value:
    """Queries of the heads that share keys as rows of one matrix."""
    if sizes.heads == sizes.groups:
        return query
    return w.reshaped(query, 0, sizes.groups, -1, sizes.width)
