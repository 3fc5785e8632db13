"""Scales of groups that are whole multiples of their output's: int4 codes that decode to int8.

    weight ~ channel * (scale * (q - zero))     scale = 1 to 127, |scale * (q - zero)| <= 127

First groups get the scales of least error; then, for each output, channel scales are tried, groups' scales
are rounded to whole multiples of them, and codes are limited so that products fit 8 bits.

Source: DGQ, Zhang et al. 2023, arXiv:2310.04836, two-phase search.
"""

from __future__ import annotations

import numpy as np

from gossamer.kernels.formats.dual_grain import MOST

from .grids import Floats
from .ranges import Ranges, rounded_scale

__all__ = ["channel_ranges"]

_RATIOS = np.linspace(1.02, 0.4, 63)


def channel_ranges(ranges: Ranges, blocks: Floats, importance: Floats) -> tuple[Ranges, Floats]:
    """Ranges [O, groups] whose scales are whole multiples of channel scales [O, 1], and those."""
    widest = np.abs(blocks).max(axis=(1, 2), initial=0)[:, None] / MOST
    best = np.full(len(blocks), np.inf)
    channels, multiples = np.ones((len(blocks), 1)), np.ones_like(ranges.scale)
    for ratio in _RATIOS:
        channel = rounded_scale(ratio * widest)
        whole = np.clip(np.rint(ranges.scale / channel), 1, MOST)
        errors = _limited(ranges, channel, whole).errors(blocks, importance).sum(axis=1)
        better = errors < best
        best = np.where(better, errors, best)
        channels = np.where(better[:, None], channel, channels)
        multiples = np.where(better[:, None], whole, multiples)
    return _limited(ranges, channels, multiples), channels


def _limited(ranges: Ranges, channel: Floats, whole: Floats) -> Ranges:
    return Ranges(ranges.grid, channel * whole, ranges.zero, np.floor(MOST / whole))
