"""Scales that are powers of two, or powers of two apart, as ZeroQuant-FP constrains them.

    each    S <- 2 ^ n                          (M1)
    apart   S <- S_output * 2 ^ -n, n >= 0      (M2)

so that a weight of float4 becomes one of float8 by an addition to its exponent. Each scale may go up, which
clips nothing, or down, which is finer: what gives the lesser error is taken, and of M2 the best of several
scales of each output.

Source: Wu, Yao and He 2023, arXiv:2307.09782, section on constraining scales.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from .grids import Floats
from .ranges import Ranges, rounded_scale

__all__ = ["LARGEST_SHIFT", "Powers", "constrained", "output_scale"]

Powers = Literal["free", "each", "apart"]
LARGEST_SHIFT = 15
"""Binades that scales of one output may be apart."""
_STEPS = 8  # scales of an output that are tried, within a factor of two


def constrained(ranges: Ranges, blocks: Floats, importance: Floats, powers: Powers) -> Ranges:
    """Like `ranges`, with the scales [O, groups] constrained; groups of zeros take any."""
    if powers == "free":
        return ranges
    scale = _without_empty(ranges.scale, blocks)
    if powers == "each":
        return _nearest(ranges, scale, np.ones((len(scale), 1)), blocks, importance)[0]
    most = scale.max(axis=1, keepdims=True)
    best = np.full(len(scale), np.inf)
    found = scale
    for step in range(_STEPS):
        base = rounded_scale(most * 2.0 ** (step / _STEPS))
        tried, errors = _nearest(ranges, scale, base, blocks, importance)
        better = errors < best
        best = np.where(better, errors, best)
        found = np.where(better[:, None], tried.scale, found)
    return Ranges.of(ranges.grid, found, ranges.zero)


def output_scale(scale: Floats) -> Floats:
    """The largest scale of each output, [O, 1], of which the others are powers of two."""
    found: Floats = scale.max(axis=1, keepdims=True)
    return found


def _nearest(
    ranges: Ranges, scale: Floats, base: Floats, blocks: Floats, importance: Floats
) -> tuple[Ranges, Floats]:
    """The better of the two `base` times a power of two around each scale, and the errors of outputs."""
    ratio = np.log2(scale / base)
    sides = []
    for exponent in (np.floor(ratio), np.ceil(ratio)):
        held = np.maximum(exponent, exponent.max(axis=1, keepdims=True) - LARGEST_SHIFT)
        tried = Ranges.of(ranges.grid, base * 2.0**held, ranges.zero)
        sides.append((tried.scale, tried.errors(blocks, importance)))
    (low, below), (high, above) = sides
    chosen = np.where(below < above, low, high)
    chosen = np.maximum(chosen, chosen.max(axis=1, keepdims=True) * 2.0**-LARGEST_SHIFT)
    return Ranges.of(ranges.grid, chosen, ranges.zero), np.minimum(below, above).sum(axis=1)


def _without_empty(scale: Floats, blocks: Floats) -> Floats:
    """The scales, those of groups that hold zeros alone replaced by the least of their output."""
    empty = ~blocks.any(axis=-1)
    least = np.where(empty, np.inf, scale).min(axis=1, keepdims=True)
    return np.where(empty, np.where(np.isfinite(least), least, 1.0), scale)
