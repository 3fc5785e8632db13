"""MaxPool, AveragePool, and the places of windows. https://onnx.ai/onnx/operators/onnx__MaxPool.html"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..bounded import Array, Attributes, Bounded, defines

__all__ = ["padding", "place_of"]


def padding(
    size: Sequence[int], kernel: Sequence[int], attributes: Attributes
) -> tuple[tuple[int, ...], list[int]]:
    """Extents of the output, and the pads at all starts, then all ends, auto_pad resolved."""
    rank = len(size)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = attributes.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        out = tuple(-(-n // s) for n, s in zip(size, strides, strict=True))
        missing = [max(0, (o - 1) * s + r - n) for o, s, r, n in zip(out, strides, reach, size, strict=True)]
        small, large = [m // 2 for m in missing], [m - m // 2 for m in missing]
        return out, [*small, *large] if auto == "SAME_UPPER" else [*large, *small]
    pads = list(attributes.get("pads", [0] * 2 * rank))
    rounding = attributes.get("ceil_mode", 0)
    out = ()
    for i in range(rank):
        room = size[i] + pads[i] + pads[rank + i] - reach[i]
        count = (-(-room // strides[i]) if rounding else room // strides[i]) + 1
        if rounding and (count - 1) * strides[i] >= size[i] + pads[i]:
            count -= 1  # a window must start inside the image or its first padding
        out = (*out, count)
    return out, pads


def place_of(
    tap: Sequence[int], out: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[slice, ...]:
    """Which padded inputs a tap meets, for every output."""
    return tuple(
        slice(t * d, t * d + (o - 1) * s + 1, s)
        for t, o, s, d in zip(tap, out, strides, dilations, strict=True)
    )


def _seen(x: Array, fill: float, attributes: Attributes) -> Array:
    """(taps, N, C, …): what each tap of the window sees, `fill` outside."""
    kernel = attributes["kernel_shape"]
    rank = len(kernel)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    out, pads = padding(x.shape[2:], kernel, attributes)
    room = [(pads[i], pads[rank + i] + kernel[i] * dilations[i] + strides[i]) for i in range(rank)]
    padded = np.pad(x, [(0, 0), (0, 0), *room], constant_values=fill)
    whole = (slice(None), slice(None))
    taps = itertools.product(*map(range, kernel))
    return np.stack([padded[(*whole, *place_of(tap, out, strides, dilations))] for tap in taps])


@defines("MaxPool")
def max_pool(operator: str, attributes: Attributes, x: Bounded) -> Bounded:
    """x (N, C, …): exact."""
    return Bounded(_seen(x.value, -np.inf, attributes).max(0), _seen(x.error, 0, attributes).max(0))


@defines("AveragePool")
def average_pool(operator: str, attributes: Attributes, x: Bounded) -> Bounded:
    """x (N, C, …): the mean of what lies inside, or of the padded window too."""
    ones = np.ones_like(x.value)
    if attributes.get("count_include_pad"):
        rank = len(attributes["kernel_shape"])
        pads = attributes.get("pads", [0] * 2 * rank)
        both = [(0, 0), (0, 0), *((pads[i], pads[rank + i]) for i in range(rank))]
        inner = {**attributes, "pads": [0] * 2 * rank}
        padded = Bounded(np.pad(x.value, both), np.pad(x.error, both))
        return average_pool(operator, {**inner, "count_include_pad": 0}, padded)
    count = _seen(ones, 0, attributes).sum(0)
    mean = [_seen(a, 0, attributes).sum(0) / count for a in (x.value, x.error, abs(x.value))]
    return Bounded(mean[0], mean[1]).rounded(operator, mean[2])


@defines("GlobalAveragePool")
def global_average(operator: str, attributes: Attributes, x: Bounded) -> Bounded:
    """x (N, C, …) → (N, C, 1, …)."""
    axes = tuple(range(2, x.value.ndim))
    mean = [a.mean(axes, keepdims=True) for a in (x.value, x.error, abs(x.value))]
    return Bounded(mean[0], mean[1]).rounded(operator, mean[2])
