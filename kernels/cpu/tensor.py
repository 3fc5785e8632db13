"""Where a value of the graph lies in memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..dims import Size, larger

__all__ = ["ITEM_BYTES", "Tensor", "contiguous", "stored_type"]

ITEM_BYTES = {
    "float64": 8, "int64": 8, "uint64": 8,
    "float32": 4, "int32": 4, "uint32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2,
    "int8": 1, "uint8": 1, "bool": 1,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "float4_e2m1fn": 1, "int4": 1, "uint4": 1, "int2": 1, "uint2": 1,
}  # fmt: skip

_HELD = {"bool": "uint8", "int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}


def stored_type(dtype: str) -> str:
    """The type in which code holds an element in memory: floats of 16 bits and fewer are words.

    >>> stored_type("bool"), stored_type("float16"), stored_type("int4"), stored_type("float32")
    ('uint8', 'uint16', 'int8', 'float32')
    """
    if dtype.endswith("float16"):
        return "uint16"
    return "uint8" if dtype.startswith(("float8", "float4")) else _HELD.get(dtype, dtype)


def contiguous(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """Row-major strides, in elements.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    strides: list[Size] = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value in memory: `place` is "input", "output", "weight" or "arena"; strides count elements."""

    name: str
    dtype: str
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]
    place: str
    base: Tensor | None = None
    offset: Size = 0

    @property
    def root(self) -> Tensor:
        """The tensor that owns the memory."""
        return self if self.base is None else self.base.root

    @property
    def root_offset(self) -> Size:
        """Elements between the start of `root` and this tensor's first."""
        return 0 if self.base is None else self.offset + self.base.root_offset

    def view(self, shape: tuple[Size, ...], strides: tuple[Size, ...], offset: Size = 0) -> Tensor:
        """Another reading of the same memory."""
        return Tensor(self.name, self.dtype, shape, strides, self.place, self, offset)

    @property
    def elements(self) -> Size:
        """Elements spanned in memory, gaps included."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    @property
    def bytes(self) -> Size:
        """Bytes spanned in memory, gaps included."""
        outer = self.shape[0] * self.strides[0] if self.shape and 0 not in self.shape else 0
        return larger(self.elements, outer) * ITEM_BYTES[self.dtype]

    @property
    def is_contiguous(self) -> bool:
        """Row-major without gaps."""
        expected = contiguous(self.shape)
        return (
            all(n == 1 or s == e for n, s, e in zip(self.shape, self.strides, expected, strict=True))
            or 0 in self.shape
        )

    @property
    def size(self) -> Size:
        """Number of values."""
        return prod(self.shape)
