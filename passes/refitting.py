"""Weights that stay make up for those that went.

A row `v` of a target and the second moments `C` of what the layer reads give, over all rows `w` that are
zero in the entries `P` that went and free in the entries `S` that stay, the least error of outputs

    (v - w) C (v - w)^T     at     w_S = (C_SS)^-1 (C v)_S = v_S - v_P (D_PP)^-1 D_PS,     D = C^-1

of which the form with the smaller matrix is solved. With the damping in `C` what the data does not show stays
near `v`. Rows that keep the same entries, such as those of one R x 1 block, share the factorisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["Refitter"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Refitter:
    """A weight `target` [O, K], and `moments` [K, K], symmetric and positive definite."""

    target: Array
    moments: Array

    @cached_property
    def inverse(self) -> Array:
        """Of `moments`."""
        return np.asarray(np.linalg.inv(self.moments))

    def fit(self, keep: Mask) -> Array:
        """The best weight [O, K] whose entries outside `keep` [O, K] are exactly zero."""
        fitted = np.zeros_like(self.target)
        for rows, kept, gone in _supports(keep):
            target = self.target[rows]
            if len(kept) <= len(gone):
                sides = self.moments[kept] @ target.T
                best = np.linalg.solve(self.moments[np.ix_(kept, kept)], sides).T
            else:
                shares = np.linalg.solve(self.inverse[np.ix_(gone, gone)], target[:, gone].T)
                best = target[:, kept] - shares.T @ self.inverse[np.ix_(gone, kept)]
            fitted[np.ix_(rows, kept)] = best
        return fitted

    def spread(self, keep: Mask) -> Array:
        """For each entry that stays its place in the diagonal of (C_SS)^-1, else 1: [O, K].

        A second-order score divides by it, once other entries have gone.
        """
        result = np.ones_like(self.target)
        for rows, kept, gone in _supports(keep):
            if len(kept) <= len(gone):
                best = np.diag(np.linalg.inv(self.moments[np.ix_(kept, kept)]))
            else:
                across = self.inverse[np.ix_(gone, kept)]
                moved = np.linalg.solve(self.inverse[np.ix_(gone, gone)], across)
                best = np.diag(self.inverse)[kept] - np.sum(across * moved, axis=0)
            result[np.ix_(rows, kept)] = best
        return result


def _supports(keep: Mask) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Rows that keep the same entries, those that they keep, and those that went."""
    supports, owner = np.unique(np.packbits(keep, axis=1), axis=0, return_inverse=True)
    order = np.argsort(owner.ravel(), kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(owner.ravel(), minlength=len(supports)))[:-1]):
        yield rows, np.flatnonzero(keep[rows[0]]), np.flatnonzero(~keep[rows[0]])
