"""Elementwise operators in numpy, for tables of functions of one byte.

Names and options are those of `cpu/arithmetic.py`.

Source: https://onnx.ai/onnx/operators/. Results are float32; transcendental functions are rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FUNCTIONS"]

Array = npt.NDArray[Any]
Options = Mapping[str, Any]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _quantize(v: list[Array], o: Options) -> Array:
    zero = v[2] if len(v) > 2 else np.int32(0)
    rounded = np.rint(v[0].astype(np.float32) / v[1]).astype(np.float64) + zero
    return np.asarray(np.clip(np.nan_to_num(rounded, nan=0.0), o["low"], o["high"]))


def _dequantize(v: list[Array], o: Options) -> Array:
    zero = v[2].astype(np.float64) if len(v) > 2 else 0.0
    return np.asarray((v[0].astype(np.float64) - zero).astype(np.float32) * v[1].astype(np.float32))


def _quantize_dequantize(v: list[Array], o: Options) -> Array:
    q = np.clip(np.rint(v[0] * np.float32(o["inverse"])), o["low"], o["high"])
    return np.asarray((q + o["shift"]) * np.float32(o["scale"]))


def _clip(v: list[Array], o: Options) -> Array:
    low, high = o.get("min"), o.get("max")
    x = v[0] if low is None else np.maximum(v[0], low)
    return np.asarray(x if high is None else np.minimum(x, high))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.asarray(np.clip(alpha * x + beta, 0, 1))


def _gelu(x: Array, o: Options) -> Array:
    if o.get("approximate") == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + _erf(x * math.sqrt(0.5))))


def _exponential_unit(x: Array, alpha: float) -> Array:
    return np.asarray(np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x))


def _of_one(function: Callable[[Array, Options], Array]) -> Callable[[list[Array], Options], Array]:
    """Computed in float64, rounded to float32."""

    def rounded(values: list[Array], options: Options) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(values[0].astype(np.float64), options)).astype(np.float32)

    return rounded


def _of_two(function: Callable[[Array, Array], Array]) -> Callable[[list[Array], Options], Array]:
    """Computed in float32, as a kernel would."""

    def folded(values: list[Array], options: Options) -> Array:
        total = values[0].astype(np.float32)
        with np.errstate(all="ignore"):
            for value in values[1:]:
                total = np.asarray(function(total, value.astype(np.float32)))
        return total

    return folded


FUNCTIONS: dict[str, Callable[[list[Array], Options], Array]] = {
    "Abs": _of_one(lambda x, o: np.abs(x)),
    "Add": _of_two(lambda a, b: a + b),
    "Ceil": _of_one(lambda x, o: np.ceil(x)),
    "Clip": _clip,
    "Cos": _of_one(lambda x, o: np.cos(x)),
    "Dequantize": _dequantize,
    "Div": _of_two(lambda a, b: a / b),
    "Elu": _of_one(lambda x, o: _exponential_unit(x, o.get("alpha", 1.0))),
    "Erf": _of_one(lambda x, o: _erf(x)),
    "Exp": _of_one(lambda x, o: np.exp(x)),
    "Floor": _of_one(lambda x, o: np.floor(x)),
    "Gelu": _of_one(_gelu),
    "HardSigmoid": _of_one(lambda x, o: _hard_sigmoid(x, o.get("alpha", 0.2), o.get("beta", 0.5))),
    "HardSwish": _of_one(lambda x, o: x * _hard_sigmoid(x, 1 / 6, 0.5)),
    "LeakyRelu": _of_one(lambda x, o: np.where(x < 0, x * o.get("alpha", 0.01), x)),
    "Log": _of_one(lambda x, o: np.log(x)),
    "Max": _of_two(np.maximum),
    "Min": _of_two(np.minimum),
    "Mish": _of_one(lambda x, o: x * np.tanh(_softplus(x))),
    "Mul": _of_two(lambda a, b: a * b),
    "Neg": _of_one(lambda x, o: -x),
    "Quantize": _quantize,
    "QuantizeDequantize": _quantize_dequantize,
    "Reciprocal": _of_one(lambda x, o: 1 / x),
    "Relu": _of_one(lambda x, o: np.maximum(x, 0)),
    "Round": _of_one(lambda x, o: np.rint(x)),
    "Sigmoid": _of_one(lambda x, o: _sigmoid(x)),
    "Sign": _of_one(lambda x, o: np.sign(x)),
    "Sin": _of_one(lambda x, o: np.sin(x)),
    "Softplus": _of_one(lambda x, o: _softplus(x)),
    "Softsign": _of_one(lambda x, o: x / (1 + np.abs(x))),
    "Sqrt": _of_one(lambda x, o: np.sqrt(x)),
    "Sub": _of_two(lambda a, b: a - b),
    "Sum": _of_two(lambda a, b: a + b),
    "Swish": _of_one(lambda x, o: x * _sigmoid(o.get("alpha", 1.0) * x)),
    "Tanh": _of_one(lambda x, o: np.tanh(x)),
}
