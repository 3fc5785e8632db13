"""The palette of one weight: scales, tables and indices of least weighted error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.palette import PaletteForm, pack_palette

from .codebook import Codebook, build_codebook
from .compensation import assign_compensated
from .inputs import Inputs
from .tables import LutType

__all__ = ["Fitted", "Settings", "fit_palette"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
_TURNS = 3


@dataclass(frozen=True)
class Settings:
    """What a palette shall be. `group_rows` and `block_columns` of None: one table for all outputs, inputs.

    `compensate` spreads errors over other inputs by what is known of them; `damping` is the share of the mean
    second moment that is added to each.
    """

    bits: int
    vector: int = 1
    books: int = 1
    group_rows: int | None = None
    block_columns: int | None = None
    channel_scale: bool = False
    lut: LutType = "float16"
    compensate: bool = True
    damping: float = 0.01
    seed: int = 0

    def form(self, shape: tuple[int, ...]) -> PaletteForm:
        """The sizes of a palette for a weight of `shape`, outputs first."""
        outputs, inputs = shape[0], int(np.prod(shape[1:], dtype=np.int64))
        whole = -(-outputs // self.vector) * self.vector
        rows = whole if self.group_rows is None else min(self.group_rows, whole)
        columns = inputs if self.block_columns is None else min(self.block_columns, inputs)
        return PaletteForm(shape, self.bits, self.vector, self.books, rows, columns)


@dataclass(frozen=True)
class Fitted:
    """Parts of the format palette, its codes [books, V, K], and the error of what is decoded.

    `error` is the sum of squared errors over the sum of squares, both weighted by the inputs' second moments.
    """

    parts: dict[str, Array]
    codes: Codes
    error: float


def fit_palette(
    weight: Singles, settings: Settings, inputs: Inputs | None = None, keep_zeros: bool = False
) -> Fitted:
    """Cluster `weight` (outputs first) for a layer of which `inputs` are known, if anything.

    `keep_zeros` (for one weight a codeword, and one codebook) keeps zeros zero.
    """
    form = settings.form(weight.shape)
    matrix = weight.reshape(form.outputs, form.inputs)
    moments = np.ones((1, form.inputs), np.float32) if inputs is None else inputs.moments()
    if len(moments) > 1:
        moments = moments.repeat(form.outputs // len(moments), axis=0)
    zeros = keep_zeros and bool((matrix == 0).any())
    scale, book = _scaled_codebook(matrix, moments, form, settings, zeros)
    scaled = _padded(matrix / scale[:, None], form)
    grams = inputs.grams() if inputs is not None and settings.compensate else []
    if grams:
        codes, decoded = _compensated(scaled, grams, settings.damping, book, scaled == 0 if zeros else None)
    else:
        codes, decoded = book.nearest_all(scaled)
    gaps = decoded[: form.outputs] * scale[:, None] - matrix
    whole = float(_row_sums(matrix, matrix, moments).sum())
    error = float(_row_sums(gaps, gaps, moments).sum()) / whole if whole else 0.0
    stored = scale.astype(np.float16) if _is_half(scale) else scale
    parts = pack_palette(form, codes, book.lut, book.lut_scale, stored if settings.channel_scale else None)
    return Fitted(parts, codes, error)


def _scaled_codebook(
    matrix: Singles, moments: Singles, form: PaletteForm, settings: Settings, zeros: bool
) -> tuple[Singles, Codebook]:
    """Scales of the outputs [O], all 1 without `channel_scale`, and tables for the weights over them."""
    scale = _rounded_scale(np.sqrt(_row_sums(matrix, matrix) / form.inputs))
    if not settings.channel_scale:
        scale = np.ones(form.outputs, np.float32)
    for turn in range(_TURNS if settings.channel_scale else 1):
        scaled = _padded(matrix / scale[:, None], form)
        weights = _padded(moments * (scale * scale)[:, None], form)
        book = build_codebook(scaled, weights, form, settings.lut, settings.seed, zeros)
        if settings.channel_scale and turn + 1 < _TURNS:
            scale = _best_scale(matrix, book.nearest_all(scaled)[1][: form.outputs], moments, scale)
    return scale, book


def _compensated(
    scaled: Singles, grams: list[Floats], damping: float, book: Codebook, zeros: npt.NDArray[np.bool_] | None
) -> tuple[Codes, Singles]:
    codes = np.empty(book.form.codes_shape, np.uint8)
    outputs = book.form.outputs

    def quantize(values: Floats, column: int) -> Floats:
        tall = np.zeros((len(scaled), 1))
        tall[:outputs, 0] = values if zeros is None else np.where(zeros[:outputs, column], 0.0, values)
        found, decoded = book.nearest(tall, np.array([column]))
        codes[:, :, column] = found[:, :, 0]
        return decoded[:outputs, 0]

    work = scaled[:outputs].astype(np.float64)
    decoded = assign_compensated(work, grams, damping, quantize)
    return codes, decoded.astype(np.float32)


def _best_scale(matrix: Singles, decoded: Singles, moments: Singles, before: Singles) -> Singles:
    """The scale of each output that brings what is decoded nearest to `matrix`."""
    both, own = _row_sums(matrix, decoded, moments), _row_sums(decoded, decoded, moments)
    best = np.where((own > 0) & (both > 0), both / np.where(own > 0, own, 1), before)
    return _rounded_scale(best)


def _row_sums(left: Singles, right: Singles, moments: Singles | None = None) -> Floats:
    """Sums over the inputs of left * right * moments, [O], each added up in order."""
    sums = np.empty(len(left))
    for row, (a, b) in enumerate(zip(left, right, strict=True)):
        products = a.astype(np.float64) * b
        if moments is not None:
            products *= moments[row if len(moments) > 1 else 0]
        sums[row] = np.cumsum(products)[-1]
    return sums


def _rounded_scale(scale: Floats) -> Singles:
    """Scales as they are stored: float16 where all are ordinary numbers of it; no zero."""
    single = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return single.astype(np.float16).astype(np.float32) if _is_half(single) else single


def _is_half(scale: Singles) -> bool:
    """Whether scales are stored in float16; a scale that was rounded to it still is."""
    return bool(scale.min() >= 2.0**-14 and scale.max() <= 60000)


def _padded(matrix: Singles, form: PaletteForm) -> Singles:
    """`matrix` [O, K] with rows of zeros up to whole codewords."""
    padded = np.zeros((form.vectors * form.vector, form.inputs), np.float32)
    padded[: form.outputs] = matrix
    return padded
