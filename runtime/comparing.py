"""How far two results are apart, on the scale of the values themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import JobError

__all__ = ["TensorError", "tensor_error"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TensorError:
    """`max_abs`: largest absolute difference. `spread`: max - min of the expected values, 1 where that is 0.

    `relative` = max_abs / spread. All are infinite where NaN or infinities differ in place or sign.
    `mean_abs` is the mean absolute difference over the finite values; `where` the index of the largest.
    """

    max_abs: float
    spread: float
    mean_abs: float
    where: tuple[int, ...]

    @property
    def relative(self) -> float:
        """The largest difference in units of the spread."""
        return self.max_abs / self.spread


def tensor_error(expected: Array, got: Array) -> TensorError:
    """Compares two arrays of one shape and type. Raises JobError when shape or type differ.

    >>> tensor_error(np.array([0.0, 4.0]), np.array([0.0, 5.0])).relative
    0.25
    """
    expected, got = np.asarray(expected), np.asarray(got)
    for what, wanted, found in (
        ("shapes", list(expected.shape), list(got.shape)),
        ("types", expected.dtype.name, got.dtype.name),
    ):
        if wanted != found:
            raise JobError(f"two results have different {what}", expected=wanted, got=found)
    if expected.size == 0:
        return TensorError(0.0, 1.0, 0.0, ())
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(np.where(finite, 0.0, a), np.where(np.isfinite(b), 0.0, b), equal_nan=True):
        return TensorError(math.inf, 1.0, math.inf, _first_difference(a, b))
    difference = np.abs(np.where(finite, a, 0.0) - np.where(finite, b, 0.0))
    spread = float(np.ptp(a[finite])) if finite.any() else 0.0
    worst = np.unravel_index(int(difference.argmax()), difference.shape)
    return TensorError(
        max_abs=float(difference.max()),
        spread=spread if spread > 0 else 1.0,
        mean_abs=float(difference.sum() / max(1, int(finite.sum()))),
        where=tuple(int(i) for i in worst),
    )


def _first_difference(a: Array, b: Array) -> tuple[int, ...]:
    """The first place where one is NaN or infinite and the other is not the same."""
    special = ~np.isfinite(a) | ~np.isfinite(b)
    differs = special & ~((a == b) | (np.isnan(a) & np.isnan(b)))
    return tuple(int(i) for i in np.argwhere(differs)[0])
