"""Elementary functions of float32 vectors as polynomials; those of float64 are in `doublemath.py`.

LLVM turns `exp` of a vector into one libm call per lane; these stay in vector registers and need no libm.
Every function takes and returns an expression of any lane count. What is used more than once is held in a
register (an expression is a tree: a shared part would be written out, and simplified, once for every use).

    eˣ = 2ⁿ eʳ,   n = round(x / ln 2),   |r| ≤ ln 2 / 2

n is rounded by adding 1.5 · 2²³, which leaves it, biased as an exponent, in the lowest bits of the sum: one
shift makes 2ⁿ of it. Quotients are divisions: on Zen 4, a reciprocal and a Newton step took longer beside the
multiply-adds. tests/kernels/lowering/test_operators.py holds all against onnxruntime over wide ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, lanes_of, scalar_type, vector_type
from .doublemath import cos64, erf64, exp64, log64, power64, sigmoid64, sin64, softplus64, tanh64

__all__ = ["cos", "erf", "exp", "log", "power", "sigmoid", "sin", "softplus", "swish", "tanh"]


_LARGEST = 3.4028234663852886e38  # float32
_ROUNDING = 1.5 * 2**23  # added to a float and taken away again, it leaves the nearest integer
_PER_LN2 = 1.4426950408889634
_LOWEST = -86.98  # e to this is the smallest that `_exponential` scales rightly
# e^r on |r| ≤ ln 2 / 2 by least largest relative error, the first coefficient fixed at 1: 9e-8 and 2e-9
_SHORT = [1.0, 0.9999997019767761, 0.49999144673347473, 0.16667640209197998, 0.04189842566847801,
          0.008290222845971584]  # fmt: skip
_LONG = [1.0, 1.0, 0.4999999403953552, 0.16666430234909058, 0.041668009012937546, 0.00837424211204052,
         0.0013843552442267537]  # fmt: skip
_TANH_NUMERATOR = [4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08,
                   -8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16]  # fmt: skip
_TANH_DENOMINATOR = [4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06]
_ERF_NUMERATOR = [1.128379143519084, 0.18520832239976145, 0.050955695062380861, 0.0034082910107109506,
                  0.00022905065861350646]  # fmt: skip
_ERF_DENOMINATOR = [1.0, 0.49746925110067538, 0.11098505178285362, 0.014070470171167667,
                    0.0010179625278914885, 0.000023547966471313185, -1.1791602954361697e-7]  # fmt: skip


def _f(value: float, like: Any) -> Any:
    return constant(value, "float32", lanes_of(like))


def _i(value: int, like: Any) -> Any:
    return constant(value, "int32", lanes_of(like))


def _horner(b: Builder, x: Any, coefficients: Sequence[float]) -> Any:
    """c0 + c1 x + c2 x² …; `x` is held."""
    value = _f(coefficients[-1], x)
    for c in reversed(coefficients[:-1]):
        value = b.isa.multiply_add(value, x, _f(c, x))
    return value


def _to_int(x: Any) -> Any:
    """Nearest int32; by truncation, since not every machine rounds vectors."""
    half = tir.Select(x < _f(0.0, x), _f(-0.5, x), _f(0.5, x))
    return tir.Cast(vector_type("int32", lanes_of(x)), x + half)


def _to_float(n: Any) -> Any:
    return tir.Cast(vector_type("float32", lanes_of(n)), n)


def _bits(x: Any) -> Any:
    return tir.reinterpret(vector_type("int32", lanes_of(x)), x)


def _exponential(b: Builder, x: Any, sign: float = 1.0) -> tuple[Any, Any]:
    """(p, 2ⁿ) with e^(sign · x) = p · 2ⁿ, for -126 ≤ n ≤ 127; NaN stays in p.

    n ln 2 is rounded once: an error of n units in the last place, which sums with 1 do not show.
    """
    shift = _f(_ROUNDING + 127, x)
    biased = b.hold(b.isa.multiply_add(x, _f(sign * _PER_LN2, x), shift))
    r = b.hold(b.isa.multiply_add(biased - shift, _f(-sign * 0.6931471805599453, x), x))
    return _horner(b, r, [c * sign**k for k, c in enumerate(_SHORT)]), _power_of_two(biased)


def _power_of_two(biased: Any) -> Any:
    """2ⁿ from the sum of n, its bias and `_ROUNDING`."""
    power = tir.shift_left(_bits(biased), _i(23, biased))
    return tir.reinterpret(vector_type("float32", lanes_of(biased)), power)


def _at_least(x: Any, low: float) -> Any:
    """max(x, low), NaN kept."""
    return tir.Select(x < _f(low, x), _f(low, x), x)


def _at_most(x: Any, high: float) -> Any:
    """min(x, high), NaN kept."""
    return tir.Select(_f(high, x) < x, _f(high, x), x)


def _held_between(b: Builder, x: Any, limit: float) -> Any:
    return b.hold(_at_most(b.hold(_at_least(x, -limit)), limit))


def exp(b: Builder, x: Any) -> Any:
    """eˣ; results below 1.7e-38 are 0."""
    if scalar_type(x) == "float64":
        return exp64(b, x)
    y = b.hold(_at_most(b.hold(_at_least(x, _LOWEST)), 88.72283))
    shift = _f(_ROUNDING + 126, x)  # scaled by 2ⁿ⁻¹ and 2, since 2¹²⁸ has no float
    biased = b.hold(b.isa.multiply_add(y, _f(_PER_LN2, x), shift))
    n = b.hold(biased - shift)
    r = b.isa.multiply_add(n, _f(-0.693359375, x), y)  # ln 2 in two parts, so that r is exact
    r = b.hold(b.isa.multiply_add(n, _f(2.12194440e-4, x), r))
    value = b.hold(_horner(b, r, [2 * c for c in _LONG]) * _power_of_two(biased))
    value = b.hold(tir.Select(x < _f(_LOWEST, x), _f(0.0, x), value))
    return tir.Select(x > _f(88.72283, x), _f(float("inf"), x), value)


def _keep_nan(x: Any, result: Any) -> Any:
    return tir.Select(tir.EQ(x, x), result, x)


def _exp_of_nonpositive(b: Builder, x: Any) -> Any:
    """eˣ for x ≤ 0, at least e^-87."""
    p, scale = _exponential(b, b.hold(_at_least(x, _LOWEST)))
    return b.hold(p * scale)


def _sigmoid_divisor(b: Builder, x: Any) -> Any:
    """1 + e⁻ˣ, with x held between bounds beyond which it is 1 or so large that it makes no difference."""
    p, scale = _exponential(b, _held_between(b, x, -_LOWEST), sign=-1.0)
    return b.isa.multiply_add(p, scale, _f(1.0, x))


def sigmoid(b: Builder, x: Any) -> Any:
    """1 / (1 + e⁻ˣ)."""
    if scalar_type(x) == "float64":
        return sigmoid64(b, x)
    return _f(1.0, x) / _sigmoid_divisor(b, x)


def swish(b: Builder, x: Any) -> Any:
    """x / (1 + e⁻ˣ)."""
    if scalar_type(x) == "float64":
        return x * sigmoid64(b, x)
    return x / _sigmoid_divisor(b, x)


def tanh(b: Builder, x: Any) -> Any:
    """x P(x²) / Q(x²), the rational approximation that Eigen and XLA use; 1 beyond ±8."""
    if scalar_type(x) == "float64":
        return tanh64(b, x)
    x = _held_between(b, x, 7.99881172180175781)
    square = b.hold(x * x)
    numerator = x * _horner(b, square, _TANH_NUMERATOR)
    value = numerator / _horner(b, square, _TANH_DENOMINATOR)
    return _held_between(b, b.hold(value), 1.0)


def erf(b: Builder, x: Any) -> Any:
    """x P(x²) / Q(x²), XLA's rational approximation; 1 beyond ±3.84."""
    if scalar_type(x) == "float64":
        return erf64(b, x)
    x = _held_between(b, x, 3.832506856900711)
    square = b.hold(x * x)
    numerator = x * _horner(b, square, _ERF_NUMERATOR)
    value = numerator / _horner(b, square, _ERF_DENOMINATOR)
    return _held_between(b, b.hold(value), 1.0)


def log(b: Builder, x: Any) -> Any:
    """ln x: x = 2ᵏ m with m in [√½, √2), ln m = 2 atanh((m - 1) / (m + 1))."""
    if scalar_type(x) == "float64":
        return log64(b, x)
    lanes = lanes_of(x)
    least = _f(1.1754944e-38, x)  # smaller ones are subnormal: scaled up by 2²³
    y = b.hold(tir.Select(x < least, x * _f(8388608.0, x), x))
    bits = b.hold(_bits(y))
    k = b.hold(tir.shift_right(bits - _i(0x3F3504F3, x), _i(23, x)))  # exponent of y / √½
    m = b.hold(tir.reinterpret(vector_type("float32", lanes), bits - k * _i(1 << 23, x)))
    s = b.hold((m - _f(1.0, x)) / (m + _f(1.0, x)))
    kf = _to_float(k) - tir.Select(x < least, _f(23.0, x), _f(0.0, x))
    series = s * _f(2.0, x) * _horner(b, b.hold(s * s), [1.0, 1 / 3, 1 / 5, 1 / 7, 1 / 9])
    value = b.hold(series + kf * _f(0.6931471805599453, x))
    value = b.hold(tir.Select(x > _f(_LARGEST, x), x, value))  # infinity
    value = b.hold(tir.Select(x > _f(0.0, x), value, _f(float("nan"), x)))
    return _keep_nan(x, b.hold(tir.Select(tir.EQ(x, _f(0.0, x)), _f(float("-inf"), x), value)))


def softplus(b: Builder, x: Any) -> Any:
    """ln(1 + eˣ) = max(x, 0) + ln(1 + e^-|x|)."""
    if scalar_type(x) == "float64":
        return softplus64(b, x)
    t = _exp_of_nonpositive(b, b.hold(_f(0.0, x) - tir.abs(x)))
    return tir.Select(x > _f(0.0, x), x, _f(0.0, x)) + log(b, b.hold(_f(1.0, x) + t))


def power(b: Builder, x: Any, y: Any) -> Any:
    """xʸ = e^(y ln |x|), negative where x < 0 and y is odd, NaN where x < 0 and y is no integer."""
    if scalar_type(x) == "float64":
        return power64(b, x, y)
    magnitude = b.hold(exp(b, b.hold(y * log(b, b.hold(tir.abs(x))))))
    whole = b.hold(_to_int(y))
    odd = tir.EQ(tir.bitwise_and(whole, _i(1, y)), _i(1, y))
    negative = b.hold(tir.Select(odd, _f(0.0, x) - magnitude, magnitude))
    negative = b.hold(tir.Select(tir.EQ(_to_float(whole), y), negative, _f(float("nan"), x)))
    value = b.hold(tir.Select(x < _f(0.0, x), negative, magnitude))
    return tir.Select(tir.EQ(y, _f(0.0, y)), _f(1.0, x), value)


def sin(b: Builder, x: Any) -> Any:
    """sin x: x = q π/2 + r with |r| ≤ π/4 (π/2 in three parts), Taylor polynomials of r."""
    if scalar_type(x) == "float64":
        return sin64(b, x)
    return _sine(b, x, 0)


def cos(b: Builder, x: Any) -> Any:
    """cos x = sin(x + π/2), the shift made in whole quarters."""
    if scalar_type(x) == "float64":
        return cos64(b, x)
    return _sine(b, x, 1)


def _sine(b: Builder, x: Any, quarters: int) -> Any:
    n = b.hold(_to_int(b.hold(x * _f(0.6366197723675814, x))))
    nf = b.hold(_to_float(n))
    r = b.hold(
        x - nf * _f(1.5703125, x) - nf * _f(4.837512969970703e-4, x) - nf * _f(7.549789948768648e-8, x)
    )
    q = b.hold(n + _i(quarters, n))
    square = b.hold(r * r)
    s = r * _horner(b, square, [1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880])
    c = _horner(b, square, [1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320])
    value = b.hold(tir.Select(tir.EQ(tir.bitwise_and(q, _i(1, q)), _i(1, q)), c, s))
    return tir.Select(tir.EQ(tir.bitwise_and(q, _i(2, q)), _i(2, q)), _f(0.0, x) - value, value)
