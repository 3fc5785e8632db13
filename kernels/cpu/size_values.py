"""A small tensor of sizes that are known when the model runs, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from ..dims import Size
from .arithmetic import cast
from .builder import constant, int32
from .lazy import Index, Lazy, Scope
from .tensor import contiguous

__all__ = ["SizeValues"]


@dataclass(eq=False)
class SizeValues(Lazy):
    """numerators / denominators, in row-major order; denominators are 1 in integer types."""

    numerators: tuple[Size, ...]
    denominators: tuple[int, ...]
    dtype: str
    shape: tuple[int, ...]  # of numbers only
    conditional = True  # which element it is, is found by comparing indices

    @property
    def key(self) -> tuple[Any, ...]:
        return ("sizes", tuple(map(str, self.numerators)), self.denominators, self.dtype, self.shape)

    def parts(self) -> Sequence[Lazy]:
        return ()

    def at(self, scope: Scope, index: Index) -> Any:
        place: Any = int32(0)
        for i, stride in zip(index, contiguous(self.shape), strict=True):
            place = place + i * int32(stride)
        result = self._element(len(self.numerators) - 1)
        for number in reversed(range(len(self.numerators) - 1)):
            result = tir.Select(tir.EQ(place, int32(number)), self._element(number), result)
        return result

    def _element(self, number: int) -> Any:
        value = cast(int32(self.numerators[number]), self.dtype)
        below = self.denominators[number]
        return value if below == 1 else value * constant(1.0 / below, self.dtype)
