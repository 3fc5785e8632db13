"""Strips of a palette: its codes in the order of the strips, its tables as float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...cpu.code_planes import codes_per_step, pack_codes
from ...cpu.lookup_strips import LookupStrips
from ...cpu.palette_strips import PaletteStrips
from ...cpu.table_lookup import table_lookup
from ...formats.palette import Palette, PaletteForm, parse_palette
from ..state import Encoded, Lowering
from .panels import ZERO, StoredWeight

__all__ = ["store_strips"]

Array = np.ndarray[Any, np.dtype[Any]]


def store_strips(
    state: Lowering, name: str, encoded: Encoded, strips: Sequence[Array]
) -> StoredWeight | None:
    """The strips as codes and tables; None where outputs that share a code do not lie side by side."""
    palette = parse_palette(encoded.parts)
    form, width = palette.form, strips[0].shape[1]
    leaders = [_leaders(form, strip) for strip in strips] if width % form.vector == 0 else [None]
    found = _codes(palette, leaders)
    groups = _groups(form, leaders)
    if found is None or groups is None:
        return None
    label = f"palette {form.bits} bit" + (f", {form.books} books" if form.books > 1 else "")
    label += f", {form.vector} weights a code" if form.vector > 1 else ""
    numbers, grouping = groups
    fast = _looked_up(state, name, palette, found, width) if grouping != "output" else None
    stored = fast or _one_by_one(state, name, palette, found, width, grouping)
    if grouping:
        more = state.pool.add(f"{name}.groups", numbers, "table of each strip")
        stored = replace(stored, tensors=(*stored.tensors, more))
    scale = None if (palette.scale == 1).all() else np.broadcast_to(palette.scale, (form.outputs,))
    count = sum(t.bytes for t in stored.tensors) + (0 if scale is None else scale.size * 4)
    return StoredWeight(stored, label, count, scale)


def _looked_up(
    state: Lowering, name: str, palette: Palette, codes: Sequence[Array], width: int
) -> LookupStrips | None:
    """Strips that are looked up in registers; None where a vector of them has several tables."""
    form, lanes = palette.form, state.isa.lanes
    block = form.block_columns if form.lut_shape[2] > 1 else 0
    if form.vector > 1:
        return None
    luts = palette.tables.reshape(-1, 2**form.bits)
    lookup = table_lookup(state.isa, form.bits, luts)
    step = lookup.vectors * lanes
    if block % (step // width):
        return None
    vectors = _in_steps(codes, step).reshape(form.books, -1, lookup.vectors, lanes)
    tables = lookup.tables(luts).reshape(*form.lut_shape[:3], -1)
    tensors = (
        state.pool.add(f"{name}.codes", lookup.pack(vectors), "codes of strips"),
        state.pool.add(f"{name}.tables", tables, "tables"),
    )
    return LookupStrips(tensors, width, step, lookup, form.books, block)


def _one_by_one(
    state: Lowering, name: str, palette: Palette, codes: Sequence[Array], width: int, grouping: str
) -> PaletteStrips:
    """Strips whose codes are looked up one after another, each in a table of its own."""
    form = palette.form
    count = codes_per_step(form.bits)
    steps = _in_steps(codes, count)
    packed = np.stack([pack_codes(book, form.bits) for book in steps])
    tensors = (
        state.pool.add(
            f"{name}.codes", packed.reshape(form.books, -1, count * form.bits // 8), "codes of strips"
        ),
        state.pool.add(f"{name}.tables", palette.tables, "tables"),
    )
    block = form.block_columns if form.lut_shape[2] > 1 else 0
    return PaletteStrips(
        tensors, width, count * form.vector, form.bits, form.books, form.vector, block, grouping
    )


def _in_steps(codes: Sequence[Array], count: int) -> Array:
    """[books, all codes]: every strip begins a step of `count` codes."""
    return np.concatenate([np.pad(c, ((0, 0), (0, -c.shape[1] % count))) for c in codes], axis=1)


def _leaders(form: PaletteForm, strip: Array) -> Array | None:
    """The first of every d outputs that share a code (positions); None where they are not neighbours."""
    leaders = strip[:, :: form.vector]
    for i in range(1, form.vector):
        expected = leaders + i * form.inputs
        beyond = (leaders < 0) | (expected >= form.outputs * form.inputs)
        if not np.array_equal(strip[:, i :: form.vector][~beyond], expected[~beyond]):
            return None
    whole = (leaders < 0) | (leaders // form.inputs % form.vector == 0)
    return leaders if whole.all() else None


def _codes(palette: Palette, leaders: Sequence[Array | None]) -> list[Array] | None:
    """uint8 [books, codes] of every strip."""
    form = palette.form
    flat, zero = palette.codes.reshape(form.books, -1), _zero_code(palette)
    found = []
    for strip in leaders:
        if strip is None or (zero is None and (strip == ZERO).any()):
            return None
        order = strip.reshape(-1)
        index = order // form.inputs // form.vector * form.inputs + order % form.inputs
        codes = flat[:, np.where(order < 0, 0, index)]
        found.append(np.where(order == ZERO, zero or 0, codes).astype(np.uint8))
    return found


def _zero_code(palette: Palette) -> int | None:
    """The code of zero, where there is one table only and zero is in it."""
    if palette.tables.size > 1 << palette.form.bits:
        return None
    zeros = np.flatnonzero(palette.tables == 0)
    return int(zeros[0]) if zeros.size else None


def _groups(form: PaletteForm, leaders: Sequence[Array | None]) -> tuple[Array, str] | None:
    """The group of outputs of each strip, or of each output of each strip, and which of the two."""
    if form.lut_shape[1] == 1:
        return np.zeros(0, np.int32), ""
    rows = []
    for strip in leaders:
        if strip is None:
            return None
        if not len(strip):
            rows.append(np.zeros(strip.shape[1], np.int64))
            continue
        group = np.where(strip < 0, -1, strip // form.inputs // form.group_rows)
        best = group.max(axis=0)  # the same for all inputs, but for weights that are not used
        if not ((group == best) | (group < 0)).all():
            return None
        rows.append(np.where(best < 0, best.max(), best))
    numbers = np.repeat(np.stack(rows), form.vector, axis=1)
    if (numbers == numbers[:, :1]).all():
        return np.ascontiguousarray(numbers[:, 0]).astype(np.int32), "strip"
    return np.maximum(numbers, 0).astype(np.int32), "output"
