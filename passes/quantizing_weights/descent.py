"""Numbers that were rounded one after another are rounded again, one by one, given all the others.

For one output, e = (weight - rounded) and H = E[x x'], the error e H e' is least in number k, the others as
they are, where its weight is rounded + (e H)_k / H_kk. A few sweeps over all inputs find what rounding in
one order has missed.
"""

from __future__ import annotations

import numpy as np

from .grids import Floats
from .ranges import Ranges

__all__ = ["descend"]

_LAZY = 64
_SWEEPS = 4


def descend(weight: Floats, numbers: Floats, ranges: Ranges, blocks: list[Floats], damping: float) -> None:
    """Improve `numbers` [O, K], in place, for `ranges` that are spread over the inputs.

    `blocks` are those of `Inputs.grams`: [groups, b, b] for each b neighbouring inputs.
    """
    start = 0
    for grams in blocks:
        size = grams.shape[-1]
        _descend_block(weight, numbers, ranges, _damped(grams, damping), start)
        start += size


def _damped(grams: Floats, damping: float) -> Floats:
    mean = np.einsum("gkk->gk", grams).mean(axis=1)
    mean = np.where(mean > 0, mean, 1.0)
    found: Floats = grams + (damping * mean)[:, None, None] * np.eye(grams.shape[-1])
    return found


def _descend_block(weight: Floats, numbers: Floats, ranges: Ranges, grams: Floats, first: int) -> None:
    groups, size, _ = grams.shape
    own = slice(first, first + size)
    gaps = weight[:, own] - ranges.scale[:, own] * numbers[:, own]
    slopes = gaps.reshape(groups, -1, size) @ grams
    diagonal = np.einsum("gkk->gk", grams)
    for _ in range(_SWEEPS):
        changed = False
        for start in range(0, size, _LAZY):
            end = min(start + _LAZY, size)
            local = slopes[:, :, start:end].copy()
            moved = np.zeros_like(local)
            for at in range(start, end):
                k = first + at
                here = ranges.at(k)
                rounded = here.scale * numbers[:, k]
                wish = (local[:, :, at - start] / diagonal[:, at, None]).reshape(-1)
                found = here.nearest(rounded + wish)
                step = (here.scale * (found - numbers[:, k])).reshape(groups, -1)
                numbers[:, k] = found
                moved[:, :, at - start] = step
                local -= step[:, :, None] * grams[:, None, at, start:end]
            if moved.any():
                changed = True
                slopes -= moved @ grams[:, start:end]
        if not changed:
            return
