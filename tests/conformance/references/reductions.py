"""Sums, means, extremes, softmax and layer norm along axes. https://onnx.ai/onnx/operators/onnx__Softmax.html"""

from __future__ import annotations

from math import prod

import numpy as np

from ..bounded import Array, Attributes, Bounded, defines


def _axes(x: Bounded, axes: Bounded | None) -> tuple[int, ...]:
    if axes is None:
        return tuple(range(x.value.ndim))
    return tuple(int(a) % x.value.ndim for a in axes.value)


@defines("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
def reduced(operator: str, attributes: Attributes, x: Bounded, axes: Bounded | None = None) -> Bounded:
    """axes: int64, all where left out."""
    where, keep = _axes(x, axes), bool(attributes.get("keepdims", 1))
    if operator in ("ReduceMax", "ReduceMin"):
        pick = np.max if operator == "ReduceMax" else np.min
        return Bounded(np.asarray(pick(x.value, where, keepdims=keep)), x.error.max(where, keepdims=keep))
    count = prod(x.shape[a] for a in where) if operator == "ReduceMean" else 1
    value, error, magnitude = (
        np.asarray(a.sum(where, keepdims=keep) / count) for a in (x.value, x.error, abs(x.value))
    )
    return Bounded(value, error).rounded(operator, magnitude)


@defines("Softmax", "LogSoftmax")
def softmax(operator: str, attributes: Attributes, x: Bounded) -> Bounded:
    """Along one axis: an error of the arguments is at most doubled."""
    axis = attributes.get("axis", -1)
    shifted = x.value - x.value.max(axis, keepdims=True)
    total = np.exp(shifted).sum(axis, keepdims=True)
    doubled = 2 * np.broadcast_to(x.error.max(axis, keepdims=True), x.shape)
    if operator == "LogSoftmax":
        return Bounded(shifted - np.log(total), doubled).rounded(operator, 1 + abs(x.value) + abs(shifted))
    value = np.exp(shifted) / total
    return Bounded(value, value * np.expm1(doubled)).rounded(operator, value * (1 + abs(shifted)))


@defines("LayerNormalization")
def layer_norm(
    operator: str, attributes: Attributes, x: Bounded, scale: Bounded, bias: Bounded | None = None
) -> Bounded:
    """Over the axes from `axis`; dy = (dx - mean dx - y · mean(y · dx)) / σ, errors independent."""
    axes = tuple(range(attributes.get("axis", -1) % x.value.ndim, x.value.ndim))
    mean = x.value.mean(axes, keepdims=True)
    centred = x.value - mean
    deviation = np.sqrt((centred**2).mean(axes, keepdims=True) + attributes.get("epsilon", 1e-5))
    normal = centred / deviation
    magnitude = (abs(x.value) + abs(x.value).mean(axes, keepdims=True)) / deviation
    spread = magnitude * (1 + abs(normal))
    typical = np.sqrt((x.error**2).mean(axes, keepdims=True))
    carried = (x.error + typical * (1 + abs(normal))) / deviation
    b: Array = np.zeros(()) if bias is None else bias.value
    found = Bounded(normal * scale.value + b, carried * abs(scale.value))
    return found.rounded(operator, abs(scale.value) * spread + abs(b))


@defines("CumSum")
def running_sum(operator: str, attributes: Attributes, x: Bounded, axis: Bounded) -> Bounded:
    """Along one axis, forwards or backwards, with or without the element itself."""
    along = int(axis.value.reshape(-1)[0])

    def summed(a: Array) -> Array:
        turned = np.flip(a, along) if attributes.get("reverse") else a
        total = np.cumsum(turned, along)
        if attributes.get("exclusive"):
            total = total - turned
        return np.flip(total, along) if attributes.get("reverse") else total

    return Bounded(summed(x.value), summed(x.error)).rounded(operator, summed(abs(x.value)))


@defines("TopK")
def largest(operator: str, attributes: Attributes, x: Bounded, k: Bounded) -> tuple[Bounded, Bounded]:
    """Sorted values and their places; equal values in the order of their places."""
    axis, count = attributes.get("axis", -1), int(k.value.reshape(-1)[0])
    key = -x.value if attributes.get("largest", 1) else x.value
    order = np.take(np.argsort(key, axis=axis, kind="stable"), np.arange(count), axis=axis)
    values = np.take_along_axis(x.value, order, axis)
    return Bounded(values, np.zeros(values.shape)), Bounded(order.astype(np.int64), np.zeros(order.shape))
