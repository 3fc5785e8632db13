"""Storing grouped weights in strips, for kernels that decode them while they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cpu.code_planes import codes_per_step, pack_codes
from ..cpu.grouped_strips import GroupedStrips
from ..cpu.half import half_bits
from ..grouped_weight import GroupedWeight
from .encoded.panels import StoredWeight
from .encoded.strip_rows import whole_rows
from .state import Lowering

__all__ = ["store_grouped"]

Array = npt.NDArray[Any]
_LONG = 16  # inputs of a step, where groups allow: their scales are read once


def store_grouped(
    state: Lowering, name: str, weight: GroupedWeight, strips: Sequence[Array]
) -> StoredWeight | None:
    """The strips; None where one is not whole rows."""
    outputs = whole_rows(strips, weight.inputs)
    if outputs is None:
        return None
    width, rows = outputs.shape[1], np.maximum(outputs, 0)
    step = _step(weight, width)
    zero = int(weight.zero.flat[0]) if (weight.zero == weight.zero.flat[0]).all() else None
    scale = np.ascontiguousarray(weight.scale[rows].transpose(0, 2, 1))
    arrays = {"codes": _codes(weight, rows, step), "scales": half_bits(scale) if weight.halves else scale}
    if zero is None:
        arrays["zeros"] = np.ascontiguousarray(weight.zero[rows].transpose(0, 2, 1)).astype(np.uint8)
    tensors = tuple(state.pool.add(f"{name}.{part}", array, weight.label) for part, array in arrays.items())
    form = GroupedStrips(tensors, width, step, weight.bits, weight.group, weight.groups, weight.element, zero)
    return StoredWeight(form, weight.label, sum(array.nbytes for array in arrays.values()))


def _step(weight: GroupedWeight, width: int) -> int:
    """Codes of a step."""
    step = codes_per_step(weight.bits)
    while step < width * _LONG and weight.group % (2 * step // width) == 0:
        step *= 2
    return step


def _codes(weight: GroupedWeight, rows: Array, step: int) -> Array:
    """uint8 [steps, bytes]: every strip begins a step, its codes in the order (input, output)."""
    ordered = weight.codes[rows].transpose(0, 2, 1).reshape(len(rows), -1)
    padded = np.pad(ordered, ((0, 0), (0, -ordered.shape[1] % step)))
    return pack_codes(padded.reshape(-1), weight.bits).reshape(-1, step * weight.bits // 8)
