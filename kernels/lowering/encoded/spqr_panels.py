"""Strips of an spqr weight: codes in the order of the strips, scales and zeros as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cpu.code_planes import codes_per_step, pack_codes
from ...cpu.half import HALF_FACTOR, half_bits
from ...cpu.spqr_strips import SpqrStrips
from ...formats.spqr import Spqr, parse_spqr
from ..state import Encoded, Lowering
from .panels import StoredWeight
from .strip_rows import whole_rows

__all__ = ["grid_factors", "store_strips"]

Array = npt.NDArray[Any]


def store_strips(
    state: Lowering, name: str, encoded: Encoded, strips: Sequence[Array]
) -> StoredWeight | None:
    """The strips; None where one is not whole rows that share a grid."""
    spqr = parse_spqr(encoded.parts)
    outputs = whole_rows(strips, spqr.codes.shape[1])
    if outputs is None or spqr.form.scale_bits + spqr.form.zero_bits > 8:
        return None
    panels = np.where(outputs < 0, -1, outputs // spqr.form.rows)
    panel = panels.max(axis=1)
    if not ((panels == panel[:, None]) | (panels < 0)).all():
        return None
    rows = np.maximum(outputs, 0)
    arrays = {
        "codes": _codes(spqr, rows),
        "stats": np.ascontiguousarray(_stats(spqr)[rows].transpose(0, 2, 1)),
        "grids": half_bits(spqr.grids.transpose(1, 2, 0)),
        "factors": grid_factors(spqr),
        "panels": np.maximum(panel, 0).astype(np.int32),
    }
    label = f"spqr {spqr.form.bits} bit"
    tensors = tuple(state.pool.add(f"{name}.{part}", array, label) for part, array in arrays.items())
    form = SpqrStrips(tensors, outputs.shape[1], codes_per_step(spqr.form.bits), spqr.form)
    return StoredWeight(form, label, sum(array.nbytes for array in arrays.values()))


def grid_factors(spqr: Spqr) -> Array:
    """What the numbers of a grid are multiplied by when they are read as float16: float32 [4]."""
    unit = np.float32(spqr.unit * np.float32(HALF_FACTOR))
    return np.array([unit, unit, HALF_FACTOR, HALF_FACTOR], np.float32)


def _codes(spqr: Spqr, rows: Array) -> Array:
    """uint8 [steps, bytes]: every strip begins a step, its codes in the order (input, output)."""
    count = codes_per_step(spqr.form.bits)
    ordered = spqr.codes[rows].transpose(0, 2, 1).reshape(len(rows), -1)
    padded = np.pad(ordered, ((0, 0), (0, -ordered.shape[1] % count)))
    return pack_codes(padded.reshape(-1), spqr.form.bits).reshape(-1, count * spqr.form.bits // 8)


def _stats(spqr: Spqr) -> Array:
    """uint8 [O, G]: the number of a scale, above it that of a zero."""
    both: Array = spqr.scales | spqr.zeros << spqr.form.scale_bits
    return both
