"""Floats of 16 bits and fewer: in memory as integers, in registers as float32.

A number whose exponent and mantissa are moved to those of a float32 is 2 ** (127 - bias) times too small,
numbers below the normal ones included; that product is exact, and so is its inverse. A number of exponent e
is a multiple of 2 ** (e - m), for m bits of mantissa, and below the least exponent of that of the least:
adding and taking away 1.5 * 2 ** 23 times that leaves the nearest one, ties to even.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, lanes_of, vector_type

__all__ = ["SMALL_FLOATS", "SmallFloat", "decode_float", "encode_float", "round_float"]

_MANTISSA = 23
_BIAS = 127
_EXPONENT = 0x7F800000
_MAGNITUDE = 0x7FFFFFFF
_HALF_MORE = 0x00400000  # the bit that makes 1.5 of 1


@dataclass(frozen=True)
class SmallFloat:
    """Bits of exponent and mantissa, bias, largest number; the words of infinity and NaN, if there are such.

    Where NaN is the word of minus zero there is no minus zero.
    """

    exponent: int
    mantissa: int
    bias: int
    largest: float
    infinity: int | None
    nan: int | None

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.exponent + self.mantissa)

    @property
    def least(self) -> int:
        """The exponent of the least normal number."""
        return 1 - self.bias

    @property
    def word(self) -> str:
        """The integer type that holds one."""
        return "uint16" if self.exponent + self.mantissa > 7 else "uint8"


SMALL_FLOATS = {
    "float16": SmallFloat(5, 10, 15, 65504.0, 0x7C00, 0x7E00),
    "bfloat16": SmallFloat(8, 7, 127, 3.3895313892515355e38, 0x7F80, 0x7FC0),
    "float8_e4m3fn": SmallFloat(4, 3, 7, 448.0, None, 0x7F),
    "float8_e4m3fnuz": SmallFloat(4, 3, 8, 240.0, None, 0x80),
    "float8_e5m2": SmallFloat(5, 2, 15, 57344.0, 0x7C, 0x7E),
    "float8_e5m2fnuz": SmallFloat(5, 2, 16, 57344.0, None, 0x80),
    "float4_e2m1fn": SmallFloat(2, 1, 1, 6.0, None, None),
}
"""By numpy's (ml_dtypes') name."""


def _bits(x: Any) -> Any:
    return tir.reinterpret(vector_type("int32", lanes_of(x)), x)


def _float(x: Any) -> Any:
    return tir.reinterpret(vector_type("float32", lanes_of(x)), x)


def decode_float(b: Builder, word: Any, form: SmallFloat) -> Any:
    """float32 of the integers `word` as they lie in memory."""
    lanes = lanes_of(word)

    def whole(value: int) -> Any:
        return constant(value, "int32", lanes)

    word = b.hold(tir.Cast(vector_type("int32", lanes), word))
    size = b.hold(word & whole(form.sign - 1))
    moved = tir.shift_left(size, whole(_MANTISSA - form.mantissa))
    if form.bias != _BIAS:
        factor = constant(2.0 ** (_BIAS - form.bias), "float32", lanes)
        moved = _bits(b.hold(_float(moved) * factor))
    if form.infinity is not None and form.bias != _BIAS:
        special = tir.shift_left(size, whole(_MANTISSA - form.mantissa)) | whole(_EXPONENT)
        moved = tir.Select(size >= whole(form.infinity), special, moved)
    moved = moved | tir.shift_left(word & whole(form.sign), whole(31 - form.exponent - form.mantissa))
    if form.infinity is None and form.nan is not None:
        nan = tir.EQ(word if form.nan == form.sign else size, whole(form.nan))
        moved = tir.Select(nan, whole(_EXPONENT | _HALF_MORE), moved)
    return b.hold(_float(b.hold(moved)))


def round_float(b: Builder, x: Any, form: SmallFloat, saturate: bool = False) -> Any:
    """float32 `x` as the nearest number of a form, in float32; NaN stays.

    What is too large becomes the largest number if it shall `saturate` or the form has nothing else, else
    infinity, else NaN. See the tables of https://onnx.ai/onnx/technical/float8.html.
    """
    lanes = lanes_of(x)

    def real(value: float) -> Any:
        return constant(value, "float32", lanes)

    y = b.hold(x)
    if form.bias == _BIAS:
        rounded = _rounded_mantissa(b, y, form)
    else:
        beyond = real(2 * form.largest)  # so that the step below is finite
        held = b.hold(tir.Select(beyond < y, beyond, y))
        held = b.hold(tir.Select(held < -beyond, -beyond, held))
        rounded = b.hold(_rounded(b, held, form))
    beyond_all = float("nan" if form.infinity is None else "inf")
    instead = form.largest if saturate or form.nan is None else beyond_all
    if form.bias == _BIAS and not saturate:
        return rounded  # it has become infinity
    rounded = b.hold(tir.Select(rounded > real(form.largest), real(instead), rounded))
    return b.hold(tir.Select(rounded < real(-form.largest), real(-instead), rounded))


def _rounded(b: Builder, y: Any, form: SmallFloat) -> Any:
    lanes = lanes_of(y)

    def whole(value: int) -> Any:
        return constant(value, "int32", lanes)

    exponent = b.hold(_bits(y) & whole(_EXPONENT))
    exponent = tir.max(exponent, whole((form.least + _BIAS) << _MANTISSA))
    step = exponent + whole((_MANTISSA - form.mantissa) << _MANTISSA)
    shift = b.hold(_float(step | whole(_HALF_MORE)))
    near = b.hold(b.hold(y + shift) - shift)
    return tir.Select(tir.EQ(near, constant(0.0, "float32", lanes)), y * near, near)  # the sign of zero


def _rounded_mantissa(b: Builder, y: Any, form: SmallFloat) -> Any:
    """Of a form with float32's exponents: half a step is added to the bits, less for even numbers."""
    lanes, dropped = lanes_of(y), _MANTISSA - form.mantissa

    def whole(value: int) -> Any:
        return constant(value, "int32", lanes)

    bits = b.hold(_bits(y))
    odd = tir.shift_right(bits, whole(dropped)) & whole(1)
    up = (bits + odd + whole((1 << (dropped - 1)) - 1)) & whole(-1 << dropped)
    return b.hold(tir.Select(tir.EQ(y, y), _float(b.hold(up)), y))


def encode_float(b: Builder, x: Any, form: SmallFloat) -> Any:
    """The integers in memory of float32 numbers that the form has, or that are infinite or not numbers.

    NaN is minus zero where there is no word for it.
    """
    lanes = lanes_of(x)

    def whole(value: int) -> Any:
        return constant(value, "int32", lanes)

    x = b.hold(x)
    bits = b.hold(_bits(x))
    size = b.hold(bits & whole(_MAGNITUDE))
    small = size
    if form.bias != _BIAS:
        small = _bits(b.hold(_float(size) * constant(2.0 ** (form.bias - _BIAS), "float32", lanes)))
    word = b.hold(tir.shift_right(small, whole(_MANTISSA - form.mantissa)))
    if form.infinity is not None:
        word = tir.Select(size >= whole(_EXPONENT), whole(form.infinity), word)
    sign = tir.shift_right(bits, whole(31 - form.exponent - form.mantissa)) & whole(form.sign)
    if form.nan == form.sign:
        sign = tir.Select(tir.EQ(word, whole(0)), whole(0), sign)
    word = b.hold(word | sign)
    word = tir.Select(tir.EQ(x, x), word, whole(form.sign if form.nan is None else form.nan))
    return tir.Cast(vector_type(form.word, lanes), word)
