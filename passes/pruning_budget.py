"""One budget of zeros for all layers: blocks are ranked together, and none of the layers dies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gossamer.kernels.formats.base import Array

__all__ = ["blocks_lost"]


def blocks_lost(scores: Sequence[Array], sizes: Sequence[Array], share: float, most: float) -> list[int]:
    """How many blocks each layer loses so that `share` of all weights become zero.

    `scores` holds what a weight of each block matters, on a scale that all layers share; `sizes` (same
    shapes) its number of weights. The blocks that matter least go, as many as fit; the first of equals. A
    layer loses at most the share `most` of its blocks, and keeps one.
    """
    limits = [min(int(most * score.size), score.size - 1) for score in scores]
    orders = [np.argsort(s, axis=None, kind="stable")[:n] for s, n in zip(scores, limits, strict=True)]
    owner = np.repeat(np.arange(len(scores)), limits)
    ranked = np.concatenate([score.ravel()[order] for score, order in zip(scores, orders, strict=True)])
    weights = np.concatenate([size.ravel()[order] for size, order in zip(sizes, orders, strict=True)])
    order = np.argsort(ranked, kind="stable")
    budget = round(share * sum(int(size.sum()) for size in sizes))
    count = int(np.searchsorted(np.cumsum(weights[order]), budget, side="right"))
    return [int(n) for n in np.bincount(owner[order[:count]], minlength=len(scores))]
