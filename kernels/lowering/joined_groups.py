"""Groups of a convolution with fewer outputs than a vector has lanes, several as one.

A vector of outputs then takes as many products as before, of which more are by zero, but there are fewer
vectors to scale, round and store, and they are whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["joined_groups"]

Array = np.ndarray[Any, np.dtype[Any]]


def joined_groups(weights: Array, groups: int, lanes: int) -> tuple[Array, int]:
    """Weights (M, C / groups, kh, kw) of fewer groups, and how many; unchanged where that fills no vector.

    >>> joined_groups(np.ones((32, 4, 1, 1)), 8, 16)[0].shape
    (32, 16, 1, 1)
    """
    outputs, own = weights.shape[:2]
    each = outputs // groups
    if each >= lanes or lanes % each or groups % (lanes // each):
        return weights, groups
    many = lanes // each
    joined = np.zeros((outputs, many * own, *weights.shape[2:]), weights.dtype)
    for m in range(outputs):
        start = m // each % many * own
        joined[m, start : start + own] = weights[m]
    return joined, groups // many
