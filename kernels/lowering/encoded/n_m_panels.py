"""Strips of an N:M weight: for each, the stored weights of its outputs and their positions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ...bit_packing import unpack_bits
from ...cpu.n_m_strips import NMStrips
from ...formats.n_m import position_bits
from ..state import Encoded, Lowering
from .panels import StoredWeight
from .strip_rows import whole_rows

__all__ = ["store_strips"]

Array = np.ndarray[Any, np.dtype[Any]]
_WORD = 32  # bits for the positions of an output in a step, and a tap


def store_strips(
    state: Lowering, name: str, encoded: Encoded, strips: Sequence[Array]
) -> StoredWeight | None:
    """Values and positions in the order of the strips; None where a strip is not all inputs in order."""
    shape = tuple(int(size) for size in encoded.parts["shape"])
    outputs = whole_rows(strips, prod(shape[1:]))
    values, of = encoded.parts["values"], int(encoded.parts["group"][0])
    taps, groups, kept = values.shape[1:]
    bits = position_bits(of)
    if outputs is None or kept * bits > _WORD:
        return None
    positions = unpack_bits(encoded.parts["positions"], bits, values.size).reshape(values.shape)
    steps = -(-groups // (_WORD // (kept * bits)))
    per_step = -(-groups // steps)
    width = outputs.shape[1]
    form = NMStrips((), width, per_step * of * taps * width, kept, of, bits, per_step, taps)
    rows, real = np.maximum(outputs, 0), outputs >= 0
    chosen = np.where(real[..., None, None, None], values[rows], 0).astype(np.float32)
    padding = [(0, 0), (0, 0), (0, 0), (0, steps * per_step - groups), (0, 0)]

    def in_steps(array: Array) -> Array:
        """[strips, width, T, G, N] as [strips, steps, T, groups, N, width]."""
        padded = np.pad(array, padding)
        return padded.reshape(len(outputs), width, taps, steps, per_step, kept).transpose(0, 3, 2, 4, 5, 1)

    words = _words(in_steps(positions[rows]), bits)
    form.tensors = (
        state.pool.add(f"{name}.values", np.ascontiguousarray(in_steps(chosen)), f"{kept}:{of} of strips"),
        state.pool.add(f"{name}.positions", words, "positions in strips"),
    )
    return StoredWeight(form, f"n-m {kept}:{of}", sum(tensor.bytes for tensor in form.tensors))


def _words(positions: Array, bits: int) -> Array:
    """[strips, steps, T, groups, N, width] as words [strips, steps, T, width]."""
    flat = positions.reshape(*positions.shape[:3], -1, positions.shape[-1]).astype(np.uint32)
    shifts = (np.arange(flat.shape[3]) * bits).astype(np.uint32)[:, None]
    words = np.bitwise_or.reduce(flat << shifts, axis=3)
    used = flat.shape[3] * bits
    kind = next(kind for size, kind in ((8, np.uint8), (16, np.uint16), (32, np.uint32)) if used <= size)
    return np.ascontiguousarray(words.astype(kind))
