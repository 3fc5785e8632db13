"""The distribution of a value over many arrays, in little memory and whatever their order.

Bins are `2**exponent` wide and begin at its multiples, so that two neighbours join exactly when the range
grows: the result depends on the data alone.
"""

from __future__ import annotations

from math import frexp

import numpy as np
import numpy.typing as npt

__all__ = ["BINS", "Histogram"]

BINS = 4096
"""At most so many bins between the smallest value, or zero, and the largest."""
_LEAST_EXPONENT = -140
Counts = npt.NDArray[np.int64]


class Histogram:
    """Counts of finite float32 values; exact zeros, which cost nothing to quantise, are counted apart."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        """The smallest and largest value and zero."""
        self.zeros = 0
        self.exponent = _LEAST_EXPONENT
        self.first = 0
        """Of the bins in `counts`: it begins at `first * width`."""
        self.counts: Counts = np.zeros(0, np.int64)

    @property
    def width(self) -> float:
        return 2.0**self.exponent

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        return np.asarray((self.first + np.arange(len(self.counts)) + 0.5) * self.width, np.float64)

    def widen(self, low: float, high: float) -> None:
        """Make room for values between `low` and `high`, which are not counted."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.high > self.low:
            # frexp: range / (BINS - 1) <= 2 ** exponent
            self._coarsen(max(self.exponent, frexp((self.high - self.low) / (BINS - 2))[1]))

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count `values` of any shape."""
        flat = values.reshape(-1)
        if not flat.size:
            return
        self.widen(float(flat.min()), float(flat.max()))
        filled = flat[flat != 0]
        self.zeros += flat.size - filled.size
        if filled.size:
            places = np.floor(filled.astype(np.float64) / self.width).astype(np.int64)
            first = int(places.min())
            self._count(first, np.bincount(places - first))

    def merge(self, other: Histogram) -> None:
        """Count what `other` has counted."""
        self.widen(other.low, other.high)
        copy = Histogram.restore(
            other.low, other.high, other.zeros, other.exponent, other.first, other.counts
        )
        copy._coarsen(self.exponent)
        self._coarsen(copy.exponent)
        self.zeros += copy.zeros
        if copy.counts.size:
            self._count(copy.first, copy.counts)

    @classmethod
    def restore(
        cls, low: float, high: float, zeros: int, exponent: int, first: int, counts: Counts
    ) -> Histogram:
        """One that was saved."""
        made = cls()
        made.low, made.high, made.zeros = low, high, zeros
        made.exponent, made.first, made.counts = exponent, first, counts
        return made

    def _coarsen(self, exponent: int) -> None:
        steps = exponent - self.exponent
        if steps <= 0:
            return
        if self.counts.size:
            places = (self.first + np.arange(len(self.counts))) >> min(steps, 62)
            self.first = int(places[0])
            self.counts = np.bincount(places - self.first, weights=self.counts).astype(np.int64)
        self.exponent = exponent

    def _count(self, first: int, counts: Counts) -> None:
        if not self.counts.size:
            self.first, self.counts = first, counts.astype(np.int64)
            return
        start = min(self.first, first)
        end = max(self.first + len(self.counts), first + len(counts))
        total = np.zeros(end - start, np.int64)
        total[self.first - start :][: len(self.counts)] += self.counts
        total[first - start :][: len(counts)] += counts
        self.first, self.counts = start, total
