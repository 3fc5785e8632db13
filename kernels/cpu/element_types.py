"""Types of elements that no register holds: what they are computed in, and how they lie in memory.

Floats of 16 bits and fewer are computed in float32 and rounded when they are stored. Integers of 4 and 2 bits
take a byte each, as numpy's arrays of them do, and are computed in 8 bits.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, lanes_of, scalar_type, vector_type
from .powers_of_two import decode_power, encode_power, round_power
from .small_floats import SMALL_FLOATS, decode_float, encode_float, round_float

__all__ = ["POWER", "SMALL_INTEGERS", "computed_type", "from_memory", "narrowed", "to_memory"]

SMALL_INTEGERS = {"int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}
"""By numpy's (ml_dtypes') name: what they are computed in."""

POWER = "float8_e8m0fnu"


def computed_type(dtype: str) -> str:
    """The type of expressions of a value.

    >>> computed_type("bfloat16"), computed_type("uint4"), computed_type("int64")
    ('float32', 'uint8', 'int64')
    """
    if dtype in SMALL_FLOATS or dtype == POWER:
        return "float32"
    return SMALL_INTEGERS.get(dtype, dtype)


def from_memory(b: Builder, word: Any, dtype: str) -> Any:
    """The value of what was loaded; booleans become TIR's."""
    if dtype in SMALL_FLOATS:
        return decode_float(b, word, SMALL_FLOATS[dtype])
    if dtype == POWER:
        return decode_power(b, word)
    if dtype == "bool":
        return tir.NE(word, constant(0, "uint8", lanes_of(word)))
    if dtype in SMALL_INTEGERS:
        return narrowed(b, word, dtype)  # callers may leave anything in the upper bits
    return word


def to_memory(b: Builder, value: Any, dtype: str) -> Any:
    """What to store of a value, rounded to the type."""
    if dtype in SMALL_FLOATS:
        form = SMALL_FLOATS[dtype]
        return encode_float(b, round_float(b, _plain(value, "float32"), form), form)
    if dtype == POWER:
        return encode_power(b, _plain(value, "float32"))
    return _plain(value, "uint8" if dtype == "bool" else computed_type(dtype))


def narrowed(b: Builder, value: Any, dtype: str, saturate: bool = True, rounding: str = "up") -> Any:
    """What Cast makes of a float or an integer, in the type that `dtype` is computed in.

    Floats are rounded to nearest, ties to even, and powers of two as `rounding` says; of integers the
    lowest bits stay.
    """
    if dtype in SMALL_FLOATS:
        # types that have infinity and 16 bits never saturate; a single 4-bit float always does
        saturate = saturate and SMALL_FLOATS[dtype].word == "uint8"
        return round_float(b, _plain(value, "float32"), SMALL_FLOATS[dtype], saturate)
    if dtype == POWER:
        return round_power(b, _plain(value, "float32"), saturate, rounding)
    bits = int(dtype[-1])
    lanes = lanes_of(value)
    whole = b.hold(_plain(value, "int32"))
    gone = constant(32 - bits, "int32", lanes)
    kind = vector_type("uint32" if dtype.startswith("u") else "int32", lanes)
    moved = tir.reinterpret(kind, tir.shift_left(whole, gone))
    back = tir.shift_right(moved, constant(32 - bits, scalar_type(moved), lanes))
    return tir.Cast(vector_type(computed_type(dtype), lanes), back)


def _plain(value: Any, dtype: str) -> Any:
    source, lanes = scalar_type(value), lanes_of(value)
    if source == dtype:
        return value
    if source == "bool":
        return tir.Select(value, constant(1, dtype, lanes), constant(0, dtype, lanes))
    return tir.Cast(vector_type(dtype, lanes), value)
