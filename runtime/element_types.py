"""Element types of inputs and outputs: numpy's own, and those that ml_dtypes adds to it.

Arrays of the latter have ml_dtypes' types where it is installed, else integers of the same bits. Numbers of 4
and 2 bits take a byte each, in Python as in memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

__all__ = ["DTYPES", "array_type", "item_bytes", "raw_type"]

DTYPES = {
    "float32": "float",
    "float64": "double",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz",
    "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz",
    "float8_e8m0fnu": "float8e8m0",
    "float4_e2m1fn": "float4e2m1",
    "int2": "int2",
    "int4": "int4",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint2": "uint2",
    "uint4": "uint4",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
}
"""numpy's (ml_dtypes') name of an element type: ONNX's name."""

_RAW = {
    "bfloat16": "uint16",
    "int2": "int8",
    "int4": "int8",
    **{name: "uint8" for name in DTYPES if name.startswith(("float8", "float4", "uint2", "uint4"))},
}


def raw_type(name: str) -> np.dtype[Any]:
    """The type of numpy itself whose elements have the same bytes.

    >>> raw_type("bfloat16"), raw_type("int4"), raw_type("float32")
    (dtype('uint16'), dtype('int8'), dtype('float32'))
    """
    return np.dtype(_RAW.get(name, name))


def item_bytes(name: str) -> int:
    """Bytes of one element."""
    return raw_type(name).itemsize


@cache
def array_type(name: str) -> np.dtype[Any]:
    """The type of arrays that a session gives."""
    if name not in _RAW:
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        return raw_type(name)
    return np.dtype(getattr(ml_dtypes, name, raw_type(name)))
