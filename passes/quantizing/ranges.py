"""The range that a grid of 256 steps should cover, from the distribution of the values.

min-max        all values
percentile     all but the outermost share, each end on its own
entropy        least KL divergence from the distribution to what is left of it on the grid
squared-error  least sum of squared rounding errors inside and distances outside
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from .histogram import Histogram

__all__ = ["Method", "range_of"]

Method = Literal["min-max", "percentile", "entropy", "squared-error"]
Floats = npt.NDArray[np.float64]
Range = tuple[float, float]
_LEVELS = 256
_STEPS = 128  # candidates for each end of a range
_LEAST_SHARE = 0.05  # of the whole range that a candidate covers


def range_of(histogram: Histogram, method: Method, percentile: float = 99.99) -> Range:
    """Smallest and largest value that the grid should hold; zero is always between them."""
    whole = histogram.low, histogram.high
    if method == "min-max" or not histogram.counts.size:
        return whole
    if method == "percentile":
        return _percentile(histogram, percentile)
    find: Callable[[Histogram], Range] = _least_divergence if method == "entropy" else _least_error
    return find(histogram)


def _percentile(histogram: Histogram, percentile: float) -> Range:
    """The ends of the bins within which that share of all values lies, each end on its own."""
    counts, zeros = histogram.counts, histogram.zeros
    out = (counts.sum() + zeros) * (1 - percentile / 100)
    centres = histogram.centres
    low = high = 0.0
    below, above = np.cumsum(counts) > out, np.cumsum(counts[::-1])[::-1] > out
    if below.any() and (first := centres[below.argmax()]) < 0:
        low = max(histogram.low, float(first) - histogram.width / 2)
    if above.any() and (last := centres[::-1][above[::-1].argmax()]) > 0:
        high = min(histogram.high, float(last) + histogram.width / 2)
    return low, high


def _candidates(histogram: Histogram) -> tuple[Floats, Floats]:
    """Ends to try, outermost first."""
    shares = np.linspace(1.0, _LEAST_SHARE, _STEPS)
    return histogram.low * shares, histogram.high * shares


def _least_error(histogram: Histogram) -> Range:
    """With d the step: d^2 / 12 for each value inside, its squared distance to the range outside."""
    centres, counts = histogram.centres, histogram.counts.astype(np.float64)
    sums = [np.concatenate([[0.0], np.cumsum(counts * centres**power)]) for power in (0, 1, 2)]

    def outside(ends: Floats, *, above: bool) -> tuple[Floats, Floats]:
        """Number of values beyond each end, and their squared distances."""
        places = np.searchsorted(centres, ends)
        parts = [s[-1] - s[places] if above else s[places] for s in sums]
        return parts[0], parts[2] - 2 * ends * parts[1] + ends**2 * parts[0]

    lows, highs = _candidates(histogram)
    if histogram.low == 0:
        lows = lows[:1]
    if histogram.high == 0:
        highs = highs[:1]
    (few, cost), (many, price) = outside(lows, above=False), outside(highs, above=True)
    steps = (highs[None] - lows[:, None]) / (_LEVELS - 1)
    inside = sums[0][-1] - few[:, None] - many[None]
    total = steps**2 / 12 * inside + cost[:, None] + price[None]
    i, j = np.unravel_index(int(total.argmin()), total.shape)
    return float(lows[i]), float(highs[j])


def _least_divergence(histogram: Histogram) -> Range:
    """Both ends move together, as the KL divergence cannot tell one side from the other."""
    found = [
        (_divergence(histogram, low, high), index, (float(low), float(high)))
        for index, (low, high) in enumerate(zip(*_candidates(histogram), strict=True))
    ]
    return min(found)[2]


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """sum p log(p / q): p has what lies outside in its outermost bins, q is p without that, averaged over
    the filled bins of each step of the grid."""
    centres, counts = histogram.centres, histogram.counts.astype(np.float64)
    inside = (centres >= low) & (centres <= high)
    if inside.sum() < 2:
        return float("inf")
    own = counts[inside]
    clipped = own.copy()
    clipped[0] += counts[: inside.argmax()].sum()
    clipped[-1] += counts[len(counts) - inside[::-1].argmax() :].sum()
    step = (high - low) / (_LEVELS - 1)
    places = np.rint((centres[inside] - low) / step).astype(np.int64)
    filled = clipped > 0
    total = np.bincount(places, weights=own)
    cells = np.bincount(places, weights=filled)
    spread = (total / np.maximum(cells, 1))[places]
    p, q = clipped[filled] / clipped.sum(), np.maximum(spread[filled], 1e-9) / max(own.sum(), 1e-9)
    return float(np.sum(p * np.log(p / q)))
