"""One layer's weight, clustered and stored: as a palette, or as the palette of blocks that are not zero."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from gossamer.kernels.bit_packing import packed_bytes
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.block_sparse import block_grid, block_survivors
from gossamer.kernels.formats.palette import PaletteForm, pack_palette

from ..storing import Stored
from .fitting import Settings, fit_palette
from .inputs import Inputs

__all__ = ["Clustered", "cluster_weight", "palette_bytes", "sparse_block"]

Singles = npt.NDArray[np.float32]
_BLOCKS = (16, 8, 4, 2, 1)
"""Outputs of a block, widest first: of equal sizes the wider one is faster."""
_LEAST_SAVING = 0.05


@dataclass(frozen=True)
class Clustered:
    """What a weight is stored as; `error` is that of `Fitted`, `block` the outputs of a block or 0."""

    stored: Stored
    form: PaletteForm
    error: float
    block: int


def cluster_weight(weight: Singles, settings: Settings, inputs: Inputs | None = None) -> Clustered:
    """Cluster `weight` (outputs first) for a layer of which `inputs` are known, if anything.

    Where zeros make it smaller, only blocks of R x 1 that are not all zero are stored, with one table for all
    of them. Zeros of such a weight stay zero.
    """
    block = sparse_block(weight, settings.bits)
    if not block:
        fitted = fit_palette(weight, settings, inputs)
        return Clustered(Stored("palette", fitted.parts), settings.form(weight.shape), fitted.error, 0)
    plain = replace(settings, group_rows=None, block_columns=None, channel_scale=False)
    fitted = fit_palette(weight, plain, inputs, keep_zeros=True)
    matrix = weight.reshape(len(weight), -1)
    alive = np.asarray(_blocks(matrix != 0, block).any(axis=1))
    if not alive.any():
        alive[0] = True
    zero = int(np.argmin(np.abs(fitted.parts["lut"].astype(np.float64)).reshape(-1)))
    codes = _blocks(fitted.codes[0], block, zero)[alive]
    form = PaletteForm((*codes.shape, 1), settings.bits, 1, 1, len(codes), block)
    scale = fitted.parts["lut_scale"] if fitted.parts["lut_scale"].dtype == np.float32 else None
    values = pack_palette(form, codes[None], fitted.parts["lut"], scale)
    mask = np.packbits(alive, bitorder="little")
    shape = np.array(weight.shape, np.int64)
    parts: dict[str, Array | Stored] = {"values": Stored("palette", values), "mask": mask, "shape": shape}
    return Clustered(Stored("block-sparse", parts), form, fitted.error, block)


def sparse_block(weight: Singles, bits: int) -> int:
    """The R of R x 1 blocks that store `weight` in the fewest bytes, or 0 where a dense palette does."""
    if np.count_nonzero(weight) > weight.size * (1 - _LEAST_SAVING):
        return 0
    sizes = {}
    for rows in _BLOCKS:
        survivors = max(1, block_survivors(weight, rows, 1))
        sizes[rows] = packed_bytes(survivors * rows, bits) + -(-prod(block_grid(weight.shape, rows, 1)) // 8)
    best = min(sizes, key=sizes.__getitem__)
    return best if sizes[best] < packed_bytes(weight.size, bits) * (1 - _LEAST_SAVING) else 0


def palette_bytes(shape: tuple[int, ...], settings: Settings) -> int:
    """Bytes of a palette before it is made, but for the scales of float16 tables with unusual values."""
    form = settings.form(shape)
    entry = {"float16": 2, "float32": 4, "int8": 1}[settings.lut]
    scales = 4 * prod(form.lut_shape[:3]) if settings.lut == "int8" else 2
    channels = 2 * form.outputs if settings.channel_scale else 2
    header = 8 * len(shape) + 24
    codes = packed_bytes(prod(form.codes_shape), form.bits)
    return codes + entry * prod(form.lut_shape) + scales + channels + header


def _blocks(matrix: Array, rows: int, fill: int = 0) -> Array:
    """Blocks [n, R] of `rows` x 1 in row-major order of blocks, those at the end filled up."""
    padded = np.pad(matrix, [(0, -len(matrix) % rows), (0, 0)], constant_values=fill)
    return padded.reshape(-1, rows, matrix.shape[1]).swapaxes(1, 2).reshape(-1, rows)
