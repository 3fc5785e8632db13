"""Codes of grouped weights to float32, a vector at a time."""

from __future__ import annotations

from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, lanes_of, vector_type

__all__ = ["float_codes"]

_SMALL = {
    "float4e2m1": (2, 1, 1),
    "float8e4m3fn": (4, 3, 7),
    "float8e5m2": (5, 2, 15),
}  # exponent, mantissa, bias


def float_codes(b: Builder, element: str, codes: Any) -> Any:
    """float32 of int32 `codes`; what is not finite is not among them.

    Bits of a small float are moved to those of a float32. Its subnormal numbers are whole multiples of the
    least one: no float32 that is subnormal arises, which some processors take for zero.
    """
    lanes = lanes_of(codes)
    kind = vector_type("float32", lanes)
    if element == "integer":
        return tir.Cast(kind, codes)
    exponent, mantissa, bias = _SMALL[element]
    code = b.hold(codes)
    sign = tir.shift_left(
        code & constant(1 << exponent + mantissa, "int32", lanes), _shift(31 - exponent - mantissa, lanes)
    )
    size = b.hold(code & constant((1 << exponent + mantissa) - 1, "int32", lanes))
    moved = tir.shift_left(size, _shift(23 - mantissa, lanes)) + constant(127 - bias << 23, "int32", lanes)
    least = constant(2.0 ** (1 - bias - mantissa), "float32", lanes)
    few = tir.reinterpret(vector_type("int32", lanes), tir.Cast(kind, size) * least)
    found = tir.Select(tir.LT(size, constant(1 << mantissa, "int32", lanes)), few, moved)
    return tir.reinterpret(kind, found | sign)


def _shift(bits: int, lanes: int) -> Any:
    return constant(bits, "int32", lanes)
