"""Matrices of integers as kernels read them: rows start a multiple of four elements apart."""

from __future__ import annotations

from ..cpu.elementwise import Elementwise
from ..cpu.lazy import Lazy, Leaf
from ..cpu.tensor import Tensor, contiguous
from .state import Lowering

__all__ = ["fits_rows", "row_pitch", "rows_apart", "stored_rows"]

_GROUP = 4  # rows start so many bytes apart, or a multiple of it


def row_pitch(size: int) -> int:
    """Elements from one row to the next."""
    return -(-size // _GROUP) * _GROUP


def stored_rows(state: Lowering, value: Lazy, name: str) -> Tensor:
    """`value` (…, M, K) in memory, rows the same distance apart, of which whole groups may be read."""
    if isinstance(value, Leaf) and _evenly_apart(value.tensor):
        return value.tensor
    depth = value.shape[-1]
    out = state.new_tensor(name, value.dtype, value.shape, rows_apart(value.shape, row_pitch(depth)))
    state.steps.append(Elementwise(value, out))
    return out


def _evenly_apart(tensor: Tensor) -> bool:
    depth, pitch = (
        tensor.shape[-1],
        tensor.strides[-2] if len(tensor.shape) > 1 else row_pitch(tensor.shape[-1]),
    )
    expected = rows_apart(tensor.shape, pitch)
    even = all(n == 1 or s == e for n, s, e in zip(tensor.shape, tensor.strides, expected, strict=True))
    readable = depth % _GROUP == 0 or (tensor.place == "arena" and pitch >= row_pitch(depth))
    return even and readable


def rows_apart(shape: tuple[int, ...], pitch: int) -> tuple[int, ...]:
    """Strides of rows that start `pitch` apart."""
    return (*(pitch * s // shape[-1] for s in contiguous(shape)[:-1]), 1)


def fits_rows(tensor: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Float operands that a vector of columns can read: one value, a row, or what lies as the result does."""
    if tensor.size == 1:
        return True
    if tensor.place == "input" or tensor.strides[-1] != 1:
        return False
    row = tensor.size == tensor.shape[-1] == shape[-1]
    return row or (tensor.shape == shape and tensor.strides == strides)
