"""Tables of palettes: how their entries are rounded, and which entry is nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .vectors import nearest_vectors

__all__ = ["LutType", "Rounded", "Tables", "round_tables"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
LutType = Literal["float16", "float32", "int8"]
_HALF_LEAST, _HALF_MOST = 2.0**-10, 60000.0
_FEW = 64  # entries


@dataclass(frozen=True)
class Rounded:
    """Tables as they are stored; `lut_scale` float32 [tables...] or None where it is one."""

    lut: npt.NDArray[np.generic]
    lut_scale: npt.NDArray[np.float32] | None

    @property
    def values(self) -> Floats:
        """What is decoded, float64."""
        single = self.lut.astype(np.float32)
        if self.lut_scale is not None:
            single = single * self.lut_scale[..., None, None]
        return single.astype(np.float64)


def round_tables(tables: Floats, kind: LutType) -> Rounded:
    """`tables` [..., entries, d] rounded to `kind`.

    int8 has a scale for each table; float16 where the largest entry of a table is no ordinary float16.
    float16 entries of palettes of up to 6 bits keep 8 significant bits, a bfloat16's: kernels that look bytes
    up then have two planes instead of three, and of so few entries none is as near to another.
    """
    if kind == "float32":
        return Rounded(tables.astype(np.float32), None)
    peak = np.abs(tables).max(axis=(-2, -1))
    peak = np.where(peak > 0, peak, 1.0)
    with np.errstate(over="ignore"):
        exact = np.array_equal(tables, tables.astype(np.float16))  # a palette of old: nothing may be lost
    if kind == "float16" and tables.shape[-2] <= _FEW and not exact:
        mantissa, exponent = np.frexp(tables)
        tables = np.ldexp(np.round(mantissa * 256) / 256, exponent)
    if kind == "float16" and peak.min() >= _HALF_LEAST and peak.max() <= _HALF_MOST:
        return Rounded(tables.astype(np.float16), None)
    if kind == "float16":
        scale = np.exp2(np.ceil(np.log2(peak))).astype(np.float32)
        return Rounded((tables / scale[..., None, None].astype(np.float64)).astype(np.float16), scale)
    scale = (peak / 127).astype(np.float32)
    steps = np.round(tables / scale[..., None, None].astype(np.float64))
    return Rounded(np.clip(steps, -127, 127).astype(np.int8), scale)


class Tables:
    """Nearest entries of tables [tables, entries, d], which are in ascending order where d = 1."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.count, self.entries, self.vector = values.shape
        if self.vector == 1:
            self._edges = (values[:, 1:, 0] + values[:, :-1, 0]) / 2

    def nearest(self, points: npt.NDArray[np.floating], which: npt.NDArray[np.int64]) -> Codes:
        """The index of the nearest entry for each of `points` [n, d] in table `which` [n]."""
        if self.vector == 1:
            return self._by_halving(points[:, 0], which)
        codes = np.empty(len(points), np.uint8)
        if self.count == 1:
            return nearest_vectors(points, self.values[0])
        for table in range(self.count):
            own = np.flatnonzero(which == table)
            if len(own):
                codes[own] = nearest_vectors(points[own], self.values[table])
        return codes

    def take(self, codes: Codes, which: npt.NDArray[np.int64]) -> Floats:
        """The entries [n, d]."""
        return self.values[which, codes]

    def _by_halving(self, points: npt.NDArray[np.floating], which: npt.NDArray[np.int64]) -> Codes:
        """Binary search among the edges between entries, in all tables at once; the lower one of two."""
        if self.count == 1:
            return np.searchsorted(self._edges[0], points).astype(np.uint8)
        index = np.zeros(len(points), np.int64)
        step = self.entries // 2
        while step:
            index += step * (points > self._edges[which, index + step - 1])
            step //= 2
        return index.astype(np.uint8)
