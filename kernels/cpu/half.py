"""float16 numbers in memory, as uint16, made float32 by integer instructions that every processor has.

A float16 whose exponent and mantissa are moved to those of a float32 is 2 ** 112 times too small, subnormal
numbers included; that product is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as tir

from .builder import Builder, Pointer, constant, vector_type

__all__ = ["HALF_FACTOR", "half_bits", "load_half"]

HALF_FACTOR = 2.0**112


def half_bits(array: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """`array` rounded to float16, as `load_half` reads it."""
    return np.ascontiguousarray(array, np.float16).view(np.uint16)


def load_half(b: Builder, source: Pointer, index: Any, lanes: int = 1, factor: Any = None) -> Any:
    """float32: `lanes` numbers from `index`, times `factor` / 2 ** 112 (an expression of as many lanes)."""
    word = b.hold(tir.Cast(vector_type("int32", lanes), source.load(index, lanes)))
    size = tir.shift_left(word & constant(0x7FFF, "int32", lanes), constant(13, "int32", lanes))
    sign = tir.shift_left(word & constant(0x8000, "int32", lanes), constant(16, "int32", lanes))
    small = tir.reinterpret(vector_type("float32", lanes), size | sign)
    return small * (constant(HALF_FACTOR, "float32", lanes) if factor is None else factor)
