"""Quantisation and sums of integers: exact where the standard is, else the steps that rounding leaves open.

https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from gossamer.kernels.quantization import integer_range, spread

from ..bounded import Array, Attributes, Bounded, defines
from .convolution import taps
from .windows import padding

_FLOAT32 = 2.0**-23  # a rounding of float32 and as much again for a multiplier made of several scales


def _spread(parameter: Bounded, shape: tuple[int, ...], attributes: Attributes) -> Array:
    return spread(parameter.value, shape, attributes.get("axis", 1), attributes.get("block_size", 0))


@defines("QuantizeLinear")
def quantize(
    operator: str, attributes: Attributes, x: Bounded, scale: Bounded, zero: Bounded | None = None
) -> Bounded:
    """saturate(round half to even(x / scale) + zero point); of an x that is not exact, steps it may take."""
    code = attributes.get("output_dtype", 0)
    named: Any = helper.tensor_dtype_to_np_dtype(code) if code else np.dtype(np.uint8)
    dtype = named if zero is None else zero.value.dtype
    low, high = integer_range(dtype.name)
    scales = _spread(scale, x.shape, attributes)
    zeros = 0 if zero is None else _spread(zero, x.shape, attributes).astype(np.int64)
    exact = (x.value.astype(np.float32) / scales.astype(np.float32)).astype(np.float64)
    places = np.where(x.error > 0, x.value / scales, exact)
    room = np.where(x.error > 0, x.error / scales + abs(places) * _FLOAT32, 0.0)

    def steps(r: Array) -> Array:
        return np.asarray(np.clip(np.rint(r) + zeros, low, high))

    value = steps(places)
    error = np.maximum(steps(places + room) - value, value - steps(places - room))
    return Bounded(value.astype(dtype), error)


@defines("DequantizeLinear")
def dequantize(
    operator: str, attributes: Attributes, x: Bounded, scale: Bounded, zero: Bounded | None = None
) -> Bounded:
    """(x - zero point) · scale."""
    scales = _spread(scale, x.shape, attributes)
    zeros = 0 if zero is None else _spread(zero, x.shape, attributes).astype(np.int64)
    value = (x.value.astype(np.float64) - zeros) * scales.astype(np.float64)
    return Bounded(value, x.error * scales + abs(value) * _FLOAT32)


@defines("DynamicQuantizeLinear")
def dynamic(operator: str, attributes: Attributes, x: Bounded) -> tuple[Bounded, Bounded, Bounded]:
    """In float32, operation by operation: exact where x is."""
    assert not x.error.any()
    given = x.value.astype(np.float32)
    low, high = np.float32(min(0.0, float(given.min()))), np.float32(max(0.0, float(given.max())))
    scale = (high - low) / np.float32(255) if high > low else np.float32(1)
    zero = np.rint(np.clip(-low / scale, 0, 255)).astype(np.uint8)
    whole = np.rint(given / scale) + np.float32(zero)
    values = np.clip(whole, 0, 255).astype(np.uint8)
    none = np.zeros(())
    return (
        Bounded(values, np.zeros(x.shape)),
        Bounded(np.asarray(scale, np.float64), none),
        Bounded(np.asarray(zero), none),
    )


@defines("Cast")
def cast(operator: str, attributes: Attributes, x: Bounded) -> Bounded:
    """From integers to float32."""
    assert attributes["to"] == TensorProto.FLOAT
    return Bounded(x.value.astype(np.float64), x.error + abs(x.value) * _FLOAT32 / 2)


def _without(x: Bounded, zero: Bounded | None, line: tuple[int, ...]) -> Array:
    """`x` less its zero point, which is one value or lies along `line`."""
    if zero is None:
        return x.value.astype(np.int64)
    shape = () if zero.value.size == 1 else line if zero.value.ndim == 1 else zero.shape
    return np.asarray(x.value.astype(np.int64) - zero.value.astype(np.int64).reshape(shape))


@defines("MatMulInteger")
def matmul_integer(
    operator: str,
    attributes: Attributes,
    a: Bounded,
    b: Bounded,
    a_zero: Bounded | None = None,
    b_zero: Bounded | None = None,
) -> Bounded:
    """(A - zero point) · (B - zero point) in int32."""
    left, right = _without(a, a_zero, (-1, 1)), _without(b, b_zero, (1, -1))
    return Bounded((left @ right).astype(np.int32), np.asarray(a.error @ abs(right).astype(np.float64)))


@defines("ConvInteger")
def conv_integer(
    operator: str,
    attributes: Attributes,
    x: Bounded,
    w: Bounded,
    x_zero: Bounded | None = None,
    w_zero: Bounded | None = None,
) -> Bounded:
    """What lies outside the image counts as its zero point."""
    out, pads = padding(x.shape[2:], w.shape[2:], attributes)
    image = _without(x, x_zero, ()).astype(np.float64)  # sums stay far below 2^53
    weights = _without(w, w_zero, (-1, *([1] * (w.value.ndim - 1)))).astype(np.float64)
    value = taps(image, weights, out, pads, attributes)
    return Bounded(value.astype(np.int32), taps(x.error, abs(weights), out, pads, attributes))
