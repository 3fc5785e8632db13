"""Hyperbolic functions and the inverses of these and of the trigonometric ones, in float64.

float32 is computed in float64 too: these operators are rare, and single precision would need as many
coefficients again.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, tan
from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, lanes_of
from .doublemath import exp64, horner, less_one64, log64

__all__ = ["INVERSE_FUNCTIONS"]

_ATAN = [(-1) ** k / (2 * k + 1) for k in range(21)]  # below tan(π/8)


def _f(value: float, like: Any) -> Any:
    return constant(value, "float64", lanes_of(like))


def _size(b: Builder, x: Any) -> Any:
    return b.hold(tir.Select(x < _f(0, x), _f(0, x) - x, x))


def _signed(x: Any, size: Any) -> Any:
    """`size` with the sign of x; NaN and zeros of x stay."""
    plain = tir.Select(x > _f(0, x), size, x)
    return tir.Select(x < _f(0, x), _f(0, x) - size, plain)


def _atan(b: Builder, x: Any) -> Any:
    """Of 1 / x beyond 1, of (t - 1) / (t + 1) beyond tan(π/8); then its series."""
    size = _size(b, x)
    far = b.hold(tir.Select(size > _f(1, x), _f(1, x) / size, size))
    middle = far > _f(tan(pi / 8), x)
    near = b.hold(tir.Select(middle, (far - _f(1, x)) / (far + _f(1, x)), far))
    part = b.hold(near * horner(b.hold(near * near), _ATAN))
    part = b.hold(part + tir.Select(middle, _f(pi / 4, x), _f(0, x)))
    return _signed(x, b.hold(tir.Select(size > _f(1, x), _f(pi / 2, x) - part, part)))


def _root(b: Builder, x: Any) -> Any:
    return b.hold(tir.sqrt(b.hold(x)))


def _asin(b: Builder, x: Any) -> Any:
    return _atan(b, b.hold(x / _root(b, (_f(1, x) - x) * (_f(1, x) + x))))


def _acos(b: Builder, x: Any) -> Any:
    return _f(2, x) * _atan(b, _root(b, (_f(1, x) - x) / (_f(1, x) + x)))


def _sinh(b: Builder, x: Any) -> Any:
    size = _size(b, x)
    less = b.hold(less_one64(b, size))
    exact = b.hold((less + less / (less + _f(1, x))) * _f(0.5, x))
    half = b.hold(exp64(b, b.hold(size * _f(0.5, x))))  # eˣ itself may not fit
    return _signed(x, b.hold(tir.Select(size > _f(40, x), half * _f(0.5, x) * half, exact)))


def _cosh(b: Builder, x: Any) -> Any:
    half = b.hold(exp64(b, b.hold(_size(b, x) * _f(0.5, x))))
    return half * _f(0.5, x) * half + _f(0.5, x) / half / half


def _log_more(b: Builder, u: Any) -> Any:
    """ln(1 + u) without loss near 0."""
    u = b.hold(u)
    whole = b.hold(_f(1, u) + u)
    exact = b.hold(log64(b, whole) * (u / (whole - _f(1, u))))
    exact = b.hold(tir.Select(u > _f(1e300, u), log64(b, whole), exact))
    return b.hold(tir.Select(tir.EQ(whole, _f(1, u)), u, exact))


def _asinh(b: Builder, x: Any) -> Any:
    size = _size(b, x)
    held = b.hold(tir.Select(size > _f(1e150, x), _f(1e150, x), size))  # so that its square is finite
    small = _log_more(b, held + held * held / (_f(1, x) + _root(b, held * held + _f(1, x))))
    large = b.hold(log64(b, size) + _f(0.6931471805599453, x))
    return _signed(x, b.hold(tir.Select(size > _f(1e9, x), large, small)))


def _acosh(b: Builder, x: Any) -> Any:
    t = b.hold(x - _f(1, x))
    held = b.hold(tir.Select(t > _f(1e150, x), _f(1e150, x), t))
    small = _log_more(b, held + _root(b, held * (held + _f(2, x))))
    large = b.hold(log64(b, x) + _f(0.6931471805599453, x))
    value = b.hold(tir.Select(x > _f(1e9, x), large, small))
    return tir.Select(x < _f(1, x), _f(float("nan"), x), value)


def _atanh(b: Builder, x: Any) -> Any:
    size = _size(b, x)
    value = b.hold(_f(0.5, x) * _log_more(b, (size + size) / (_f(1, x) - size)))
    return _signed(x, value)


INVERSE_FUNCTIONS: dict[str, Callable[[Builder, Any], Any]] = {
    "Acos": _acos,
    "Acosh": _acosh,
    "Asin": _asin,
    "Asinh": _asinh,
    "Atan": _atan,
    "Atanh": _atanh,
    "Cosh": _cosh,
    "Sinh": _sinh,
}
"""By ONNX's operator: float64 of float64."""
