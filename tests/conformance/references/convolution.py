"""Conv and ConvTranspose as sums over taps. https://onnx.ai/onnx/operators/onnx__Conv.html"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..bounded import Array, Attributes, Bounded, defines
from .windows import padding, place_of

__all__ = ["taps"]


def taps(x: Array, w: Array, out: tuple[int, ...], pads: list[int], attributes: Attributes) -> Array:
    """Σ over taps of w[m, c, tap] · x[n, c, place of the tap], group by group."""
    rank, groups = x.ndim - 2, attributes.get("group", 1)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    room = [(pads[i], pads[rank + i] + strides[i]) for i in range(rank)]
    padded = np.pad(x, [(0, 0), (0, 0), *room])
    total = np.zeros((x.shape[0], w.shape[0], *out))
    rows, depth = w.shape[0] // groups, w.shape[1]
    for tap in itertools.product(*map(range, w.shape[2:])):
        where: Any = (slice(None), slice(None), *place_of(tap, out, strides, dilations))
        seen = padded[where]
        for g in range(groups):
            part, m = seen[:, g * depth : (g + 1) * depth], slice(g * rows, (g + 1) * rows)
            one: Any = (m, slice(None), *tap)
            total[:, m] += np.einsum("mc,nc...->nm...", w[one], part)
    return total


def _biased(value: Array, bias: Array | None) -> Array:
    return value if bias is None else value + bias.reshape(-1, *([1] * (value.ndim - 2)))


@defines("Conv")
def conv(
    operator: str, attributes: Attributes, x: Bounded, w: Bounded, bias: Bounded | None = None
) -> Bounded:
    """x (N, C, …), w (M, C / group, …), bias (M,)."""
    out, pads = padding(x.shape[2:], w.shape[2:], attributes)
    b = None if bias is None else bias.value
    magnitude = _biased(
        taps(abs(x.value), abs(w.value), out, pads, attributes), None if b is None else abs(b)
    )
    value = _biased(taps(x.value, w.value, out, pads, attributes), b)
    error = np.sqrt(taps(x.error**2, w.value**2, out, pads, attributes))  # of independent terms
    return Bounded(value, error).rounded(operator, _of_tiles(magnitude, w.shape, attributes))


def _of_tiles(magnitude: Array, weights: tuple[int, ...], attributes: Attributes) -> Array:
    """The scale of each output: its own, or where Winograd's transforms may be used the largest of a tile's.

    They compute up to 4 x 4 outputs from the same rounded sums.
    """
    ones = [1, 1]
    plain = attributes.get("strides", ones) == ones == attributes.get("dilations", ones)
    if not plain or weights[2:] != (3, 3) or attributes.get("group", 1) != 1:
        return magnitude
    room = np.pad(magnitude, [(0, 0), (0, 0), (3, 3), (3, 3)])
    return np.asarray(sliding_window_view(room, (7, 7), (2, 3)).max((-2, -1)))


@defines("ConvTranspose")
def conv_transpose(
    operator: str, attributes: Attributes, x: Bounded, w: Bounded, bias: Bounded | None = None
) -> Bounded:
    """x (N, C, H, W), w (C, M / group, …), bias (M,): every input is spread over its window."""
    rank, groups = x.value.ndim - 2, attributes.get("group", 1)
    strides, pads = attributes.get("strides", [1] * rank), attributes.get("pads", [0] * 2 * rank)
    kernel, depth = w.shape[2:], x.shape[1] // groups
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, kernel, strict=True)]

    def spread(image: Array, weights: Array) -> Array:
        total = np.zeros((x.shape[0], weights.shape[1] * groups, *full))
        rows = weights.shape[1]
        for tap in itertools.product(*map(range, kernel)):
            where = place_of(tap, x.shape[2:], strides, [1] * rank)
            for g in range(groups):
                c, m = slice(g * depth, (g + 1) * depth), slice(g * rows, (g + 1) * rows)
                one: Any = (c, slice(None), *tap)
                part = np.einsum("cm,nc...->nm...", weights[one], image[:, c])
                total[(slice(None), m, *where)] += part
        inside = [slice(pads[i], full[i] - pads[rank + i]) for i in range(rank)]
        whole: Any = (slice(None), slice(None), *inside)
        return np.asarray(total[whole])

    b = None if bias is None else bias.value
    magnitude = _biased(spread(abs(x.value), abs(w.value)), None if b is None else abs(b))
    found = Bounded(_biased(spread(x.value, w.value), b), np.sqrt(spread(x.error**2, w.value**2)))
    return found.rounded(operator, magnitude)
