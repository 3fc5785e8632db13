"""float8_e8m0fnu: 2 ** (word - 127), NaN at 255; neither sign nor zero."""

from __future__ import annotations

from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, lanes_of, vector_type

__all__ = ["decode_power", "encode_power", "round_power"]

_LEAST = 0x00400000  # the bits of 2 ** -127, which is not normal
_NAN = 0x7FC00000


def _whole(value: int, like: Any) -> Any:
    return constant(value, "int32", lanes_of(like))


def _bits(x: Any) -> Any:
    return tir.reinterpret(vector_type("int32", lanes_of(x)), x)


def _float(x: Any) -> Any:
    return tir.reinterpret(vector_type("float32", lanes_of(x)), x)


def decode_power(b: Builder, word: Any) -> Any:
    """float32 of bytes."""
    word = b.hold(tir.Cast(vector_type("int32", lanes_of(word)), word))
    bits = b.hold(tir.shift_left(word, _whole(23, word)))
    bits = b.hold(tir.Select(tir.EQ(word, _whole(0, word)), _whole(_LEAST, word), bits))
    return _float(b.hold(tir.Select(tir.EQ(word, _whole(255, word)), _whole(_NAN, word), bits)))


def encode_power(b: Builder, x: Any) -> Any:
    """The bytes of float32 powers of two; anything that is not positive and finite is NaN."""
    bits = b.hold(_bits(b.hold(x)))
    word = tir.shift_right(bits, _whole(23, bits))
    wrong = tir.Or(bits <= _whole(0, bits), word > _whole(254, bits))
    word = tir.Select(wrong, _whole(255, bits), word)
    return tir.Cast(vector_type("uint8", lanes_of(x)), word)


def round_power(b: Builder, x: Any, saturate: bool, rounding: str) -> Any:
    """The next power of two "up" or "down" from the magnitude of float32 `x`, or the "nearest", ties up.

    As onnx.numpy_helper.to_float8e8m0: what is below 2 ** -126 counts as between that and 2 ** -127; what is
    beyond the largest becomes that if it shall `saturate`, else NaN; infinity is NaN.
    """
    bits = b.hold(_bits(b.hold(x)) & _whole(0x7FFFFFFF, x))
    exponent = b.hold(tir.shift_right(bits, _whole(23, bits)))
    rest = b.hold(bits & _whole(0x007FFFFF, bits))
    up = {"up": rest > _whole(0, bits), "nearest": _is_nearer(exponent, rest), "down": None}[rounding]
    word = exponent
    if up is not None:
        word = b.hold(tir.Select(up, exponent + _whole(1, bits), exponent))
    if saturate:
        word = tir.min(word, _whole(254, bits))
    return decode_power(b, b.hold(tir.Select(tir.EQ(exponent, _whole(255, bits)), exponent, word)))


def _is_nearer(exponent: Any, rest: Any) -> Any:
    """Whether the next power is nearer, or as near and the lower one is not the least."""
    half = _whole(0x00400000, rest)
    tie = tir.And(tir.EQ(rest, half), exponent > _whole(0, rest))
    return tir.Or(rest > half, tie)
