"""Elementary functions of float64, each with an error of a few units in the last place.

    eˣ = 2ⁿ eʳ,   n = round(x / ln 2),   |r| ≤ ln 2 / 2

Series are cut where the next term is below 2⁻⁵³ of the first. As in `vectormath.py`, what is used more than
once is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import erfc, factorial, log, pi, sqrt
from typing import Any

import numpy as np
from tvm import tirx as tir

from .builder import Builder, constant, lanes_of, vector_type

__all__ = [
    "cos64",
    "erf64",
    "exp64",
    "horner",
    "less_one64",
    "log64",
    "power64",
    "sigmoid64",
    "sin64",
    "softplus64",
    "tanh64",
]

_ROUNDING = 1.5 * 2.0**52  # added to a number and taken away again, it leaves the nearest integer
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
_HALF_PI = (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_LOWEST, _HIGHEST = -708.39, 709.782712893384
_EXP = [1 / factorial(k) for k in range(1, 15)]  # (eʳ - 1) / r
_SIN = [(-1) ** k / factorial(2 * k + 1) for k in range(10)]
_COS = [(-1) ** k / factorial(2 * k) for k in range(11)]
_ATANH = [2 / (2 * k + 1) for k in range(13)]
_ERF = [2 / sqrt(pi) * (-1) ** k / (factorial(k) * (2 * k + 1)) for k in range(14)]
_ERF_MOST, _ERF_TERMS = 6.0, 30  # erf(6) is 1 in float64


def _f(value: float, like: Any) -> Any:
    return constant(value, "float64", lanes_of(like))


def _i(value: int, like: Any) -> Any:
    return constant(value, "int64", lanes_of(like))


def _bits(x: Any) -> Any:
    return tir.reinterpret(vector_type("int64", lanes_of(x)), x)


def _float(n: Any) -> Any:
    return tir.reinterpret(vector_type("float64", lanes_of(n)), n)


def horner(x: Any, coefficients: Sequence[float]) -> Any:
    """c0 + c1 x + c2 x² …; `x` is held."""
    value = _f(coefficients[-1], x)
    for c in reversed(coefficients[:-1]):
        value = value * x + _f(c, x)
    return value


def _reduced(b: Builder, x: Any) -> tuple[Any, Any]:
    """(r, 2ⁿ⁻¹) of x between `_LOWEST` and `_HIGHEST`; NaN stays in r."""
    shift = _f(_ROUNDING + 1022, x)
    biased = b.hold(x * _f(1 / log(2), x) + shift)
    n = b.hold(biased - shift)
    r = b.hold((x - n * _f(_LN2_HIGH, x)) - n * _f(_LN2_LOW, x))
    return r, b.hold(_float(b.hold(tir.shift_left(_bits(biased), _i(52, x)))))


def _held(b: Builder, x: Any) -> Any:
    x = b.hold(x)
    x = b.hold(tir.Select(x < _f(_LOWEST, x), _f(_LOWEST, x), x))
    return b.hold(tir.Select(_f(_HIGHEST, x) < x, _f(_HIGHEST, x), x))


def exp64(b: Builder, x: Any) -> Any:
    """eˣ; results below 2⁻¹⁰²² are 0."""
    x = b.hold(x)
    r, half = _reduced(b, _held(b, x))
    value = b.hold((_f(2, x) + _f(2, x) * r * horner(r, _EXP)) * half)
    value = b.hold(tir.Select(x < _f(_LOWEST, x), _f(0, x), value))
    return tir.Select(x > _f(_HIGHEST, x), _f(float("inf"), x), value)


def less_one64(b: Builder, x: Any) -> Any:
    """eˣ - 1 without loss near 0."""
    r, half = _reduced(b, _held(b, x))
    part = b.hold(r * horner(r, _EXP))
    return b.hold(_f(2, r) * half * part + (_f(2, r) * half - _f(1, r)))


def sigmoid64(b: Builder, x: Any) -> Any:
    """1 / (1 + e⁻ˣ)."""
    return _f(1, x) / (_f(1, x) + exp64(b, b.hold(_f(0, x) - x)))


def tanh64(b: Builder, x: Any) -> Any:
    """(e²ˣ - 1) / (e²ˣ + 1); ±1 beyond ±20."""
    x = b.hold(x)
    y = b.hold(tir.Select(x > _f(20, x), _f(20, x), x))
    y = b.hold(tir.Select(y < _f(-20, x), _f(-20, x), y))
    less = less_one64(b, b.hold(y + y))
    return less / (less + _f(2, x))


def log64(b: Builder, x: Any) -> Any:
    """ln x: x = 2ᵏ m with m in [√½, √2), ln m = 2 atanh((m - 1) / (m + 1))."""
    x = b.hold(x)
    least = _f(2.2250738585072014e-308, x)  # smaller ones are subnormal: scaled up by 2⁵²
    bits = b.hold(_bits(b.hold(tir.Select(x < least, x * _f(2.0**52, x), x))))
    k = b.hold(tir.shift_right(bits - _i(0x3FE6A09E667F3BCD, x), _i(52, x)))
    m = b.hold(_float(b.hold(bits - tir.shift_left(k, _i(52, x)))))
    s = b.hold((m - _f(1, x)) / (m + _f(1, x)))
    whole = tir.Cast(vector_type("float64", lanes_of(x)), k)
    whole = b.hold(whole - tir.Select(x < least, _f(52, x), _f(0, x)))
    small = s * horner(b.hold(s * s), _ATANH) + whole * _f(_LN2_LOW, x)
    value = b.hold(small + whole * _f(_LN2_HIGH, x))
    value = b.hold(tir.Select(x > _f(1.7976931348623157e308, x), x, value))
    value = b.hold(tir.Select(x > _f(0, x), value, _f(float("nan"), x)))
    value = b.hold(tir.Select(tir.EQ(x, _f(0, x)), _f(float("-inf"), x), value))
    return tir.Select(tir.EQ(x, x), value, x)


def softplus64(b: Builder, x: Any) -> Any:
    """ln(1 + eˣ) = max(x, 0) + ln(1 + e^-|x|)."""
    x = b.hold(x)
    small = b.hold(exp64(b, b.hold(tir.Select(x > _f(0, x), _f(0, x) - x, x))))
    return tir.Select(x < _f(0, x), _f(0, x), x) + log64(b, b.hold(_f(1, x) + small))


def power64(b: Builder, x: Any, y: Any) -> Any:
    """xʸ = e^(y ln |x|), negative where x < 0 and y is odd, NaN where x < 0 and y is no integer."""
    x, y = b.hold(x), b.hold(y)
    size = b.hold(tir.Select(x < _f(0, x), _f(0, x) - x, x))
    magnitude = b.hold(exp64(b, b.hold(y * log64(b, size))))
    whole = b.hold(tir.Cast(vector_type("int64", lanes_of(x)), y))
    odd = tir.EQ(tir.bitwise_and(whole, _i(1, y)), _i(1, y))
    negative = b.hold(tir.Select(odd, _f(0, x) - magnitude, magnitude))
    exact = tir.EQ(tir.Cast(vector_type("float64", lanes_of(x)), whole), y)
    negative = b.hold(tir.Select(exact, negative, _f(float("nan"), x)))
    value = b.hold(tir.Select(x < _f(0, x), negative, magnitude))
    return tir.Select(tir.EQ(y, _f(0, y)), _f(1, x), value)


def sin64(b: Builder, x: Any) -> Any:
    """sin x: x = q π/2 + r with |r| ≤ π/4 (π/2 in three parts), Taylor polynomials of r."""
    return _sine(b, x, 0)


def cos64(b: Builder, x: Any) -> Any:
    """cos x = sin(x + π/2), the shift made in whole quarters."""
    return _sine(b, x, 1)


def _sine(b: Builder, x: Any, quarters: int) -> Any:
    x = b.hold(x)
    shift = _f(_ROUNDING, x)
    biased = b.hold(x * _f(2 / pi, x) + shift)
    n = b.hold(biased - shift)
    r = x
    for part in _HALF_PI:
        r = b.hold(r - n * _f(part, x))
    q = b.hold(_bits(biased) + _i(quarters, x))
    square = b.hold(r * r)
    s, c = r * horner(square, _SIN), horner(square, _COS)
    value = b.hold(tir.Select(tir.EQ(tir.bitwise_and(q, _i(1, q)), _i(1, q)), c, s))
    return tir.Select(tir.EQ(tir.bitwise_and(q, _i(2, q)), _i(2, q)), _f(0, x) - value, value)


@cache
def _erfc_series() -> tuple[float, ...]:
    """Chebyshev's coefficients of ln(erfc(x) / t) + x², t = 2 / (2 + x), in t from erf's last x to 0.

    The form is that of Numerical Recipes, 3rd edition, 6.2.2; the coefficients are interpolated here.
    """
    low = 2 / (2 + _ERF_MOST)

    def wanted(u: Any) -> Any:
        t = low + (1 - low) * (np.asarray(u) + 1) / 2
        x = 2 / t - 2
        return np.array([log(erfc(a) / b) + a * a for a, b in zip(x, t, strict=True)])

    return tuple(np.polynomial.chebyshev.chebinterpolate(wanted, _ERF_TERMS - 1).tolist())


def erf64(b: Builder, x: Any) -> Any:
    """erf x by its Taylor series below 1/2, else 1 - erfc x."""
    x = b.hold(x)
    size = b.hold(tir.Select(x < _f(0, x), _f(0, x) - x, x))
    held = b.hold(tir.Select(_f(_ERF_MOST, x) < size, _f(_ERF_MOST, x), size))
    low = 2 / (2 + _ERF_MOST)
    t = b.hold(_f(2, x) / (_f(2, x) + held))
    u = b.hold((t - _f(low, x)) * _f(2 / (1 - low), x) - _f(1, x))
    tail = b.hold(t * exp64(b, b.hold(_clenshaw(b, u, _erfc_series()) - held * held)))
    value = b.hold(tir.Select(x < _f(0, x), tail - _f(1, x), _f(1, x) - tail))
    return tir.Select(size < _f(0.5, x), x * horner(b.hold(x * x), _ERF), value)


def _clenshaw(b: Builder, u: Any, coefficients: Sequence[float]) -> Any:
    """Σ c Tₖ(u) by Clenshaw's recurrence."""
    one, two = _f(0, u), _f(0, u)
    for c in reversed(coefficients[1:]):
        one, two = b.hold(_f(2, u) * u * one - two + _f(c, u)), one
    return b.hold(u * one - two + _f(coefficients[0], u))
