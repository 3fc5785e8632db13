"""Elementary functions of float32 vectors as polynomials.

LLVM turns `exp` of a vector into one libm call per lane; these stay in vector registers and need no libm.
Every function takes and returns an expression of any lane count; `let` names a part that is used more than
once (an expression is a tree: unnamed, a shared part is written out, and simplified, once for every use).
tests/kernels/lowering/test_operators.py holds them against onnxruntime over wide ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx as tir

from .builder import constant, lanes_of, vector_type

Let = Callable[[Any], Any]

__all__ = ["cos", "erf", "exp", "log", "power", "sigmoid", "sin", "softplus", "tanh"]


_LARGEST = 3.4028234663852886e38  # float32


def _f(value: float, like: Any) -> Any:
    return constant(value, "float32", lanes_of(like))


def _i(value: int, like: Any) -> Any:
    return constant(value, "int32", lanes_of(like))


def _horner(x: Any, coefficients: Sequence[float]) -> Any:
    """c0 + c1 x + c2 x² …"""
    value = _f(coefficients[-1], x)
    for c in reversed(coefficients[:-1]):
        value = value * x + _f(c, x)
    return value


def _to_int(x: Any) -> Any:
    """Nearest int32; by truncation, since not every machine rounds vectors."""
    half = tir.Select(x < _f(0.0, x), _f(-0.5, x), _f(0.5, x))
    return tir.Cast(vector_type("int32", lanes_of(x)), x + half)


def _to_float(n: Any) -> Any:
    return tir.Cast(vector_type("float32", lanes_of(n)), n)


def _power_of_two(n: Any) -> Any:
    """2ⁿ for -126 ≤ n ≤ 127, written into the exponent bits."""
    return tir.reinterpret(vector_type("float32", lanes_of(n)), (n + _i(127, n)) * _i(1 << 23, n))


def _split_exponent(let: Let, y: Any) -> tuple[Any, Any]:
    """y = n ln 2 + r with |r| ≤ ln 2 / 2; gives (n, r), ln 2 in two parts so that r is exact."""
    n = let(_to_int(let(y * _f(1.4426950408889634, y))))
    nf = let(_to_float(n))
    return n, let(y - nf * _f(0.693359375, y) + nf * _f(2.12194440e-4, y))


def exp(let: Let, x: Any) -> Any:
    """eˣ, eʳ by its Taylor polynomial of degree 7."""
    low, high = -87.33654, 88.72283
    y = let(tir.Select(x > _f(low, x), x, _f(low, x)))
    y = let(tir.Select(y < _f(88.3, x), y, _f(88.3, x)))
    n, r = _split_exponent(let, y)
    p = _horner(r, [1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040])
    p = let(p * _power_of_two(n))
    p = let(tir.Select(x < _f(low, x), _f(0.0, x), p))
    # between 88.3 and the largest argument the result is e^88.3 · e^(x - 88.3)
    over = let(x - _f(88.3, x))
    near = p * (_f(1.0, x) + over * (_f(1.0, x) + over * _f(0.5, x)))
    p = tir.Select(x > _f(88.3, x), tir.Select(x > _f(high, x), _f(float("inf"), x), near), p)
    return _keep_nan(x, let(p))


def _keep_nan(x: Any, result: Any) -> Any:
    return tir.Select(tir.EQ(x, x), result, x)


def exp_of_nonpositive(let: Let, x: Any) -> Any:
    """eˣ for x ≤ 0 and never NaN, as sigmoid and tanh need it: fewer operations than `exp`."""
    y = let(tir.Select(x > _f(-87.33654, x), x, _f(-87.33654, x)))
    n, r = _split_exponent(let, y)
    p = _horner(r, [1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040])
    return let(tir.Select(x < _f(-87.33654, x), _f(0.0, x), let(p * _power_of_two(n))))


def _absolute(x: Any) -> Any:
    return tir.Select(x < _f(0.0, x), _f(0.0, x) - x, x)


def sigmoid(let: Let, x: Any) -> Any:
    """1 / (1 + e⁻ˣ), by e^-|x| so that nothing overflows."""
    t = exp_of_nonpositive(let, let(_f(0.0, x) - _absolute(x)))
    one = _f(1.0, x)
    return _keep_nan(x, let(tir.Select(x < _f(0.0, x), t, one) / (one + t)))


def tanh(let: Let, x: Any) -> Any:
    """Taylor polynomial for |x| < 0.4, else (1 - e^-2|x|) / (1 + e^-2|x|)."""
    a = let(_absolute(x))
    t = exp_of_nonpositive(let, let(a * _f(-2.0, x)))
    far = let((_f(1.0, x) - t) / (_f(1.0, x) + t))
    far = tir.Select(x < _f(0.0, x), _f(0.0, x) - far, far)
    near = x * _horner(let(x * x), [1.0, -1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925])
    return _keep_nan(x, let(tir.Select(a < _f(0.4, x), near, far)))


def erf(let: Let, x: Any) -> Any:
    """Abramowitz and Stegun 7.1.26; a Taylor polynomial near zero keeps small values relative."""
    a = let(_absolute(x))
    t = let(_f(1.0, x) / (_f(1.0, x) + a * _f(0.3275911, x)))
    p = let(t * _horner(t, [0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429]))
    far = let(_f(1.0, x) - p * exp_of_nonpositive(let, let(_f(0.0, x) - a * a)))
    far = tir.Select(x < _f(0.0, x), _f(0.0, x) - far, far)
    c = 1.1283791670955126
    near = x * _horner(let(x * x), [c, -c / 3, c / 10, -c / 42, c / 216])
    return _keep_nan(x, let(tir.Select(a < _f(0.3, x), near, far)))


def log(let: Let, x: Any) -> Any:
    """ln x: x = 2ᵏ m with m in [√½, √2), ln m = 2 atanh((m - 1) / (m + 1))."""
    lanes = lanes_of(x)
    least = _f(1.1754944e-38, x)  # smaller ones are subnormal: scaled up by 2²³
    y = let(tir.Select(x < least, x * _f(8388608.0, x), x))
    bits = let(tir.reinterpret(vector_type("int32", lanes), y))
    k = let(tir.shift_right(bits - _i(0x3F3504F3, x), _i(23, x)))  # exponent of y / √½
    m = let(tir.reinterpret(vector_type("float32", lanes), bits - k * _i(1 << 23, x)))
    s = let((m - _f(1.0, x)) / (m + _f(1.0, x)))
    kf = _to_float(k) - tir.Select(x < least, _f(23.0, x), _f(0.0, x))
    series = s * _f(2.0, x) * _horner(let(s * s), [1.0, 1 / 3, 1 / 5, 1 / 7, 1 / 9])
    value = let(series + kf * _f(0.6931471805599453, x))
    value = let(tir.Select(x > _f(_LARGEST, x), x, value))  # infinity
    value = let(tir.Select(x > _f(0.0, x), value, _f(float("nan"), x)))
    return _keep_nan(x, let(tir.Select(tir.EQ(x, _f(0.0, x)), _f(float("-inf"), x), value)))


def softplus(let: Let, x: Any) -> Any:
    """ln(1 + eˣ) = max(x, 0) + ln(1 + e^-|x|)."""
    t = exp_of_nonpositive(let, let(_f(0.0, x) - _absolute(x)))
    return tir.Select(x > _f(0.0, x), x, _f(0.0, x)) + log(let, let(_f(1.0, x) + t))


def power(let: Let, x: Any, y: Any) -> Any:
    """xʸ = e^(y ln |x|), negative where x < 0 and y is odd, NaN where x < 0 and y is no integer."""
    magnitude = let(exp(let, let(y * log(let, let(_absolute(x))))))
    whole = let(_to_int(y))
    odd = tir.EQ(tir.bitwise_and(whole, _i(1, y)), _i(1, y))
    negative = let(tir.Select(odd, _f(0.0, x) - magnitude, magnitude))
    negative = let(tir.Select(tir.EQ(_to_float(whole), y), negative, _f(float("nan"), x)))
    value = let(tir.Select(x < _f(0.0, x), negative, magnitude))
    return tir.Select(tir.EQ(y, _f(0.0, y)), _f(1.0, x), value)


def sin(let: Let, x: Any) -> Any:
    """sin x: x = q π/2 + r with |r| ≤ π/4 (π/2 in three parts), Taylor polynomials of r."""
    return _sine(let, x, 0)


def cos(let: Let, x: Any) -> Any:
    """cos x = sin(x + π/2), the shift made in whole quarters."""
    return _sine(let, x, 1)


def _sine(let: Let, x: Any, quarters: int) -> Any:
    n = let(_to_int(let(x * _f(0.6366197723675814, x))))
    nf = let(_to_float(n))
    r = let(x - nf * _f(1.5703125, x) - nf * _f(4.837512969970703e-4, x) - nf * _f(7.549789948768648e-8, x))
    q = let(n + _i(quarters, n))
    square = let(r * r)
    s = r * _horner(square, [1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880])
    c = _horner(square, [1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320])
    value = let(tir.Select(tir.EQ(tir.bitwise_and(q, _i(1, q)), _i(1, q)), c, s))
    return tir.Select(tir.EQ(tir.bitwise_and(q, _i(2, q)), _i(2, q)), _f(0.0, x) - value, value)
