"""Tables of a whole weight: made from its values, rounded, and looked up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gossamer.kernels.formats.palette import PaletteForm

from .scalar import cluster_points, collect
from .tables import LutType, Rounded, Tables, round_tables
from .vectors import cluster_vectors

__all__ = ["Codebook", "build_codebook"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
_CHUNK = 1 << 21


class Codebook:
    """Rounded tables of each book; looks up any inputs of a weight."""

    def __init__(self, form: PaletteForm, books: list[Rounded]) -> None:
        self.form = form
        self._tables = [Tables(book.values.reshape(-1, *form.lut_shape[3:])) for book in books]
        group = np.arange(form.vectors) * form.vector // form.group_rows
        self._row_table = group * form.lut_shape[2]
        self.lut = np.stack([book.lut for book in books])
        scales = [book.lut_scale for book in books]
        missing = np.ones(form.lut_shape[1:3], np.float32)
        self.lut_scale = (
            None
            if all(scale is None for scale in scales)
            else np.stack([missing if scale is None else scale for scale in scales])
        )

    def nearest(
        self, values: npt.NDArray[np.floating], columns: npt.NDArray[np.int64]
    ) -> tuple[Codes, Floats]:
        """Codes [books, V, c] for `values` [V * d, c] of the inputs `columns` [c], and what they decode to.

        Each book takes the nearest of its entries to what the books before it leave.
        """
        form = self.form
        points = values.reshape(form.vectors, form.vector, -1).swapaxes(1, 2).reshape(-1, form.vector)
        blocks = columns // form.block_columns
        which = (self._row_table[:, None] + blocks).reshape(-1)
        codes = np.empty((form.books, len(points)), np.uint8)
        decoded = np.zeros(points.shape)
        for book, tables in enumerate(self._tables):
            codes[book] = tables.nearest(points - decoded if book else points, which)
            decoded += tables.take(codes[book], which)
        shape = form.vectors, len(columns), form.vector
        tall = decoded.reshape(shape).swapaxes(1, 2).reshape(-1, len(columns))
        return codes.reshape(form.books, *shape[:2]), tall

    def nearest_all(self, values: npt.NDArray[np.floating]) -> tuple[Codes, Singles]:
        """`nearest` for all inputs, some at a time."""
        form = self.form
        codes = np.empty(form.codes_shape, np.uint8)
        decoded = np.empty(values.shape, np.float32)
        step = max(1, _CHUNK // len(values))
        for start in range(0, form.inputs, step):
            columns = np.arange(start, min(start + step, form.inputs))
            inside = slice(start, start + len(columns))
            codes[:, :, inside], decoded[:, inside] = self.nearest(values[:, inside], columns)
        return codes, decoded


def build_codebook(
    values: Singles, weights: Singles, form: PaletteForm, kind: LutType, seed: int, zeros: bool = False
) -> Codebook:
    """Tables for `values` [V * d, K] with `weights` of the same shape or [V * d, 1], [1, K].

    Each book is clustered for what the books before it leave, rounded. With `zeros` each table has an entry
    for zeros alone.
    """
    books: list[Rounded] = []
    left = values
    for book in range(form.books):
        tables = np.empty(form.lut_shape[1:])
        for group, block in np.ndindex(*form.lut_shape[1:3]):
            rows = slice(group * form.group_rows, (group + 1) * form.group_rows)
            columns = slice(block * form.block_columns, (block + 1) * form.block_columns)
            part = left[rows, columns]
            mass = np.broadcast_to(weights, left.shape)[rows, columns]
            at = (book * form.lut_shape[1] + group) * form.lut_shape[2] + block
            tables[group, block] = _table(part, mass, form, seed + at, zeros)
        books.append(round_tables(tables, kind))
        if book + 1 < form.books:
            one = PaletteForm(form.shape, form.bits, form.vector, 1, form.group_rows, form.block_columns)
            left = left - Codebook(one, books[-1:]).nearest_all(left)[1]
    return Codebook(form, books)


def _table(values: Singles, weights: Singles, form: PaletteForm, seed: int, zeros: bool) -> Floats:
    """One table [entries, d]; entries that are left over repeat the last."""
    entries, vector = form.lut_shape[3:]
    if vector > 1:
        points = values.reshape(-1, vector, values.shape[1]).swapaxes(1, 2).reshape(-1, vector)
        mass = weights.reshape(-1, vector, values.shape[1]).mean(axis=1, dtype=np.float64).reshape(-1)
        return cluster_vectors(points, mass, entries, seed)
    if zeros:
        used = values != 0
        values, weights = values[used], weights[used]
    found = np.zeros(0) if values.size == 0 else cluster_points(collect(values, weights), entries - zeros)
    if zeros:
        found = np.sort(np.append(found, 0.0))
    table: Floats = np.concatenate([found, np.repeat(found[-1:], entries - len(found))])[:, None]
    return table
