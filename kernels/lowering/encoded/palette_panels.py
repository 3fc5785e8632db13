"""Strips of a palette: its codes in the order of the strips, its tables as float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...cpu.code_planes import codes_per_step, pack_codes
from ...cpu.palette_strips import PaletteStrips
from ...formats.palette import Palette, PaletteForm, parse_palette
from ..state import Encoded, Lowering
from .panels import ANY, ZERO, StoredWeight

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
    tensors = [
        state.pool.add(f"{name}.codes", found, label),
        state.pool.add(f"{name}.tables", palette.tables, "tables"),
    ]
    if grouping:
        tensors.append(state.pool.add(f"{name}.groups", numbers, "table of each strip"))
    step = codes_per_step(form.bits) * form.vector
    block = form.block_columns if form.lut_shape[2] > 1 else 0
    stored = PaletteStrips(tuple(tensors), width, step, form.bits, form.books, form.vector, block, grouping)
    scale = None if (palette.scale == 1).all() else np.broadcast_to(palette.scale, (form.outputs,))
    count = sum(t.bytes for t in tensors) + (0 if scale is None else scale.size * 4)
    return StoredWeight(stored, label, count, scale)


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


def _codes(palette: Palette, leaders: Sequence[Array | None]) -> Array | None:
    """uint8 [books, steps, bytes]: every strip begins a step."""
    form = palette.form
    count = codes_per_step(form.bits)
    flat = palette.codes.reshape(form.books, -1)
    parts = []
    for strip in leaders:
        if strip is None or (strip == ZERO).any():
            return None
        order = strip.reshape(-1)
        index = order // form.inputs // form.vector * form.inputs + order % form.inputs
        codes = flat[:, np.where(order == ANY, 0, index)]
        parts.append(np.pad(codes, ((0, 0), (0, -codes.shape[1] % count))))
    stream = np.concatenate(parts, axis=1)
    size = count * form.bits // 8
    return np.stack([pack_codes(book, form.bits).reshape(-1, size) for book in stream])


def _groups(form: PaletteForm, leaders: Sequence[Array | None]) -> tuple[Array, str] | None:
    """The group of outputs of each strip, or of each output of each strip, and which of the two."""
    if form.lut_shape[1] == 1:
        return np.zeros(0, np.int32), ""
    rows = []
    for strip in leaders:
        if strip is None:
            return None
        group = np.where(strip < 0, -1, strip // form.inputs // form.group_rows)
        best = group.max(axis=0)  # the same for all inputs, but for weights that are not used
        if not ((group == best) | (group < 0)).all():
            return None
        rows.append(np.where(best < 0, best.max(), best))
    numbers = np.repeat(np.stack(rows), form.vector, axis=1)
    if (numbers == numbers[:, :1]).all():
        return np.ascontiguousarray(numbers[:, 0]).astype(np.int32), "strip"
    return np.maximum(numbers, 0).astype(np.int32), "output"
