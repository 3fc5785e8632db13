"""Weights in few bits with a scale for each group of inputs: what DequantizeLinear and formats like it store.

    W[o, k] = scale[o, g] * (value(code[o, k]) - zero[o, g])      g = k // group

`value` is the code itself, or the small float whose bits it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ELEMENTS", "GroupedWeight", "element_values"]

ELEMENTS = {"integer": 8, "float4e2m1": 4, "float8e4m3fn": 8, "float8e5m2": 8}
"""What a code may be, and its most bits."""

_FLOATS = {
    "float4e2m1": (2, 1, 1),
    "float8e4m3fn": (4, 3, 7),
    "float8e5m2": (5, 2, 15),
}  # exponent, mantissa, bias


@dataclass(frozen=True)
class GroupedWeight:
    """`codes` uint8 [O, K] below 2 ** bits; `scale` float32 and `zero` int32 [O, ceil(K / group)].

    `zero` is 0 for codes that are floats. `label` names the kind in reports.
    """

    codes: npt.NDArray[np.uint8]
    bits: int
    group: int
    scale: npt.NDArray[np.float32]
    zero: npt.NDArray[np.int32]
    element: str = "integer"
    label: str = ""

    @property
    def outputs(self) -> int:
        return len(self.codes)

    @property
    def inputs(self) -> int:
        return int(self.codes.shape[1])

    @property
    def groups(self) -> int:
        """Groups of one output."""
        return -(-self.inputs // self.group)

    def matrix(self) -> npt.NDArray[np.float32]:
        """The weight, float32 [O, K]."""
        group = np.arange(self.inputs) // self.group
        values = element_values(self.element, self.bits)[self.codes]
        exact: npt.NDArray[np.float32] = self.scale[:, group] * (values - self.zero[:, group]).astype(
            np.float32
        )
        return exact

    @property
    def halves(self) -> bool:
        """Whether all scales are ordinary float16 numbers, or zero."""
        with np.errstate(over="ignore"):
            small = self.scale.astype(np.float16)
        ordinary = (self.scale == 0) | (np.abs(self.scale) >= np.finfo(np.float16).smallest_normal)
        return bool((small.astype(np.float32) == self.scale).all() and ordinary.all())


def element_values(element: str, bits: int) -> npt.NDArray[np.float32]:
    """What each code stands for, float32 [2 ** bits]; codes of floats that are not finite are NaN.

    >>> element_values("float4e2m1", 4)[:8].tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """
    codes = np.arange(1 << bits)
    if element == "integer":
        return codes.astype(np.float32)
    exponent_bits, mantissa_bits, bias = _FLOATS[element]
    mantissa = codes & (1 << mantissa_bits) - 1
    exponent = codes >> mantissa_bits & (1 << exponent_bits) - 1
    normal = (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias)
    size = np.where(exponent > 0, normal, mantissa / (1 << mantissa_bits) * 2.0 ** (1 - bias))
    if element == "float8e4m3fn":
        size[codes & 0x7F == 0x7F] = np.nan
    if element == "float8e5m2":
        size[exponent == 31] = np.nan
    return np.where(codes >> exponent_bits + mantissa_bits, -size, size).astype(np.float32)
