"""Rounding to the numbers that a small float type has, in float32: nearest, ties to even, saturating.

A number of exponent e is a multiple of 2 ** (e - m), for m bits of mantissa, and below the least exponent of
that of the least: adding and taking away 1.5 * 2 ** 23 times that leaves the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, lanes_of, vector_type

__all__ = ["FLOAT8", "SmallFloat", "round_float8"]

_MANTISSA = 23
_BIAS = 127
_EXPONENT = 0x7F800000
_HALF_MORE = 0x00400000  # the bit that makes 1.5 of 1


@dataclass(frozen=True)
class SmallFloat:
    """Bits of the mantissa, exponent of the least normal number, largest number."""

    mantissa: int
    least: int
    largest: float


FLOAT8 = {"float8e4m3fn": SmallFloat(3, -6, 448.0), "float8e5m2": SmallFloat(2, -14, 57344.0)}
"""By the name of ONNX's type in lower case."""


def round_float8(b: Builder, x: Any, kind: str) -> Any:
    """float32 `x` rounded to the type called `kind`; NaN stays."""
    form, lanes = FLOAT8[kind], lanes_of(x)

    def bits(value: int) -> Any:
        return constant(value, "int32", lanes)

    most = constant(form.largest, "float32", lanes)
    y = b.hold(x)
    y = b.hold(tir.Select(most < y, most, y))
    y = b.hold(tir.Select(y < -most, -most, y))
    exponent = b.hold(tir.reinterpret(vector_type("int32", lanes), y) & bits(_EXPONENT))
    exponent = tir.max(exponent, bits((form.least + _BIAS) << _MANTISSA))
    step = exponent + bits((_MANTISSA - form.mantissa) << _MANTISSA)
    shift = b.hold(tir.reinterpret(vector_type("float32", lanes), step | bits(_HALF_MORE)))
    return b.hold(y + shift) - shift
