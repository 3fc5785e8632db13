"""Linear quantisation in numpy, as ONNX defines it: the reference of passes, lowering and tests.

Source: ONNX operators QuantizeLinear and DequantizeLinear, opset 25.
"""

from __future__ import annotations

import numpy as np

__all__ = ["dequantize_linear", "integer_range", "quantize_linear", "spread"]

_BITS = {"2": 2, "4": 4, "8": 8, "16": 16, "32": 32}


def integer_range(dtype: str) -> tuple[int, int]:
    """Smallest and largest value of an integer type by its name.

    >>> integer_range("uint8"), integer_range("int4")
    ((0, 255), (-8, 7))
    """
    kind, bits = ("uint", dtype[4:]) if dtype.startswith("uint") else ("int", dtype[3:])
    count = 1 << _BITS[bits]
    return (0, count - 1) if kind == "uint" else (-count // 2, count // 2 - 1)


def spread(values: np.ndarray, shape: tuple[int, ...], axis: int, block_size: int = 0) -> np.ndarray:
    """Scales or zero points as an array that broadcasts against `shape`.

    One value, one for each index of `axis`, or (block_size > 0) one for each block along `axis`.
    """
    if values.size == 1 and not block_size:
        return values.reshape(())
    axis %= len(shape)
    if block_size:
        return np.repeat(values, block_size, axis)[(slice(None),) * axis + (slice(shape[axis]),)]
    return values.reshape([shape[axis] if i == axis else 1 for i in range(len(shape))])


def quantize_linear(
    x: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    *,
    dtype: str = "",
    axis: int = 1,
    block_size: int = 0,
) -> np.ndarray:
    """saturate(round half to even(x / scale) + zero_point), of the integer type `dtype` or the zero point's.

    Types of less than 8 bits are returned in int8 or uint8.
    """
    dtype = dtype or str(zero_point.dtype)
    low, high = integer_range(dtype)
    scales = spread(scale.astype(np.float32), x.shape, axis, block_size)
    zeros = spread(zero_point.astype(np.int32), x.shape, axis, block_size)
    rounded = np.rint(x.astype(np.float32) / scales).astype(np.float64) + zeros
    whole = np.nan_to_num(np.clip(rounded, low, high), nan=0.0)
    held = dtype if integer_range(dtype)[1] > 15 else ("uint8" if low == 0 else "int8")
    return np.asarray(whole.astype(held))


def dequantize_linear(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None, *, axis: int = 1, block_size: int = 0
) -> np.ndarray:
    """(x - zero_point) * scale in float32; `x` may be of any integer, float8 or float4 type."""
    scales = spread(scale.astype(np.float32), x.shape, axis, block_size)
    exact = x.astype(np.int64 if x.dtype.kind in "iu" or "int" in str(x.dtype) else np.float32)
    if zero_point is not None:
        exact = exact - spread(zero_point.astype(exact.dtype), x.shape, axis, block_size)
    return np.asarray(exact.astype(np.float32) * scales, np.float32)
