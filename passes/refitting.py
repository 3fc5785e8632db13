"""Weights that stay make up for those that went.

A row `v` of a target and the second moments `C` of what the layer reads give, over all rows `w` that are
zero outside the kept entries `S`, the least error of outputs

    (v - w) C (v - w)^T     at     w_S = (C_SS)^-1 (C v)_S

With the damping in `C` what the data does not show stays near `v`. Rows that keep the same entries, such as
those of one R x 1 block, share the factorisation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["refit_kept"]

Array = npt.NDArray[np.float64]


def refit_kept(target: Array, keep: npt.NDArray[np.bool_], moments: Array) -> Array:
    """The best weight [O, K] for `target` [O, K] whose entries outside `keep` [O, K] are exactly zero.

    `moments` [K, K] is symmetric and positive definite.
    """
    sides = target @ moments
    result = np.zeros_like(target)
    supports, owner = np.unique(np.packbits(keep, axis=1), axis=0, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(owner.ravel(), minlength=len(supports)))[:-1]):
        kept = np.flatnonzero(keep[rows[0]])
        if len(kept):
            inner = moments[np.ix_(kept, kept)]
            result[np.ix_(rows, kept)] = np.linalg.solve(inner, sides[np.ix_(rows, kept)].T).T
    return result
