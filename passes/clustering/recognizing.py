"""Weights that hold a palette already: few distinct values, or whole multiples of one step for each output.

The second is what an 8-bit release leaves when its weights are dequantised, `W[o, k] = q[o, k] * scale[o]`
rounded to float32. Both are stored without losing a bit.
"""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.palette import PaletteForm, pack_palette

from ..storing import Stored
from .storing import sparse_block

__all__ = ["recognized_palette"]

Singles = npt.NDArray[np.float32]
_MOST = 256
_STEPS = 128
"""Steps of an output's scale up to its largest weight."""
_PROBES = 16


def recognized_palette(weight: Singles) -> Stored | None:
    """The smallest lossless storage of `weight` (outputs first) in a palette, None where it has none.

    Where zeros make it smaller, the palette is that of the blocks of R x 1 that are not zero.
    """
    if not np.isfinite(weight).all():
        return None
    scaled = _multiples(weight.reshape(len(weight), -1), weight.shape)
    found = [] if scaled is None else [Stored("palette", scaled)]
    if distinct := _distinct(weight):
        found.append(_few_values(weight, distinct))
    return min(found, key=lambda stored: stored.nbytes, default=None)


def _distinct(weight: Singles) -> int:
    """How many values `weight` has, 0 if more than 256; a part tells most of those at once."""
    flat = weight.reshape(-1)
    if len(np.unique(flat[: 16 * _MOST])) > _MOST:
        return 0
    count = len(np.unique(flat))
    return count if count <= _MOST else 0


def _few_values(weight: Singles, distinct: int) -> Stored:
    palette = find_format("palette")
    dense = Stored("palette", palette.encode(weight))
    block = sparse_block(weight, max(1, (distinct - 1).bit_length())) if weight.ndim > 1 else 0
    if not block:
        return dense
    blocks = find_format("block-sparse").encode(weight, rows=block, columns=1)
    parts: dict[str, Array | Stored] = {
        **blocks,
        "values": Stored("palette", palette.encode(blocks["values"])),
    }
    sparse = Stored("block-sparse", parts)
    return sparse if sparse.nbytes < dense.nbytes else dense


def _multiples(matrix: Singles, shape: tuple[int, ...]) -> dict[str, Array] | None:
    """The palette of whole numbers q with matrix = q * scale[o], each product rounded to float32."""
    scale = np.ones(len(matrix), np.float32)
    for row, weights in enumerate(matrix):
        step = _step(weights)
        if not step:
            return None
        scale[row] = step
    numbers = np.round(matrix / scale[:, None]).astype(np.int8)
    values, codes = np.unique(numbers, return_inverse=True)
    bits = max(1, (len(values) - 1).bit_length())
    form = PaletteForm(shape, bits, 1, 1, len(matrix), max(1, prod(shape[1:])))
    table = np.concatenate([values, np.repeat(values[-1:], 2**bits - len(values))])
    return pack_palette(form, codes.astype(np.uint8), table.reshape(form.lut_shape), scale=scale)


def _step(weights: Singles) -> float:
    """The largest step of which `weights` [K] are at most 127 whole multiples, exactly; 0 if there is none.

    The largest weight is m steps for some m. Its m-th part is the step, or a float32 next to it.
    """
    largest = np.float32(np.abs(weights).max())
    if largest == 0:
        return 1.0
    middle = (largest / np.arange(1, _STEPS, dtype=np.float32)).astype(np.float32)
    zero, far = np.float32(0), np.float32(np.inf)
    steps = np.stack([middle, np.nextafter(middle, zero), np.nextafter(middle, far)], axis=1).reshape(-1)
    for part in (weights[:_PROBES], weights):
        steps = steps[steps > np.finfo(np.float32).tiny]
        numbers = np.round(part / steps[:, None])
        fits = ((numbers * steps[:, None] == part) & (np.abs(numbers) < _STEPS)).all(axis=1)
        steps = steps[fits]
        if not len(steps):
            return 0.0
    return float(steps[0])
