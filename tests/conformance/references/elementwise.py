"""Elementwise operators: each with a bound of its slope, which carries its input's error on."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, sqrt

import numpy as np

from ..bounded import Array, Attributes, Bounded, defines

_erf = np.vectorize(erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.where(x >= 0, 1 / (1 + np.exp(-abs(x))), np.exp(-abs(x)) / (1 + np.exp(-abs(x)))))


def _clip(x: Array, attributes: Attributes) -> Array:
    return np.asarray(np.clip(x * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5), 0, 1))


def _gelu(x: Array, attributes: Attributes) -> Array:
    if attributes.get("approximate") == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + _erf(x / sqrt(2))))


# value(x, attributes), and the largest slope for arguments of that size
_FUNCTIONS: dict[str, tuple[Callable[[Array, Attributes], Array], float]] = {
    "Relu": (lambda x, a: np.maximum(x, 0), 1.0),
    "LeakyRelu": (lambda x, a: np.where(x < 0, a.get("alpha", 0.01) * x, x), 1.0),
    "Sigmoid": (lambda x, a: _sigmoid(x), 0.25),
    "Tanh": (lambda x, a: np.tanh(x), 1.0),
    "Erf": (lambda x, a: _erf(x), 1.13),
    "HardSigmoid": (_clip, 1.0),
    "HardSwish": (lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1), 1.5),
    "Gelu": (_gelu, 1.13),
    "Neg": (lambda x, a: -x, 1.0),
    "Abs": (lambda x, a: abs(x), 1.0),
}


@defines(*_FUNCTIONS)
def function(operator: str, attributes: Attributes, x: Bounded) -> Bounded:
    """A function of one argument; its own error in units of the result and the argument."""
    value, slope = _FUNCTIONS[operator]
    found = Bounded(value(x.value, attributes), slope * x.error)
    return found.rounded(operator, abs(found.value) + slope * abs(x.value) * (abs(x.value) < 8))


@defines("Exp")
def exponential(operator: str, attributes: Attributes, x: Bounded) -> Bounded:
    """The error of an argument becomes a relative one."""
    value = np.exp(x.value)
    return Bounded(value, value * np.expm1(x.error)).rounded(operator, value * (1 + abs(x.value)))


@defines("Clip")
def clip(
    operator: str, attributes: Attributes, x: Bounded, low: Bounded | None = None, high: Bounded | None = None
) -> Bounded:
    """Bounds are scalars."""
    least = -np.inf if low is None else low.value
    most = np.inf if high is None else high.value
    return Bounded(np.asarray(np.clip(x.value, least, most)), x.error)


@defines("Add", "Sub")
def added(operator: str, attributes: Attributes, a: Bounded, b: Bounded) -> Bounded:
    """Broadcast by numpy's rules."""
    value = a.value + b.value if operator == "Add" else a.value - b.value
    return Bounded(value, a.error + b.error).rounded(operator, abs(a.value) + abs(b.value))


@defines("Mul")
def multiplied(operator: str, attributes: Attributes, a: Bounded, b: Bounded) -> Bounded:
    """Broadcast by numpy's rules."""
    error = abs(a.value) * b.error + a.error * abs(b.value) + a.error * b.error
    return Bounded(a.value * b.value, error).rounded(operator, a.value * b.value)


@defines("Max", "Min")
def extreme(operator: str, attributes: Attributes, a: Bounded, b: Bounded) -> Bounded:
    """Broadcast by numpy's rules; exact."""
    pick = np.maximum if operator == "Max" else np.minimum
    return Bounded(np.asarray(pick(a.value, b.value)), np.asarray(np.maximum(a.error, b.error)))
