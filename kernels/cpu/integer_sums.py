"""What an integer kernel does with sums that are the result themselves: it stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .builder import Builder, Pointer, lanes_of
from .integer_epilogue import Spot
from .narrowing import store_elements
from .tensor import Tensor

__all__ = ["PlainSums"]


class PlainSums:
    """Stores int32; takes the place of `Finish`."""

    tensors: Sequence[Tensor] = ()

    def key(self, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
        """Nothing the code depends on."""
        return ("plain-sums",)

    def store(
        self,
        b: Builder,
        pointers: dict[int, Pointer],
        sums: Sequence[Any],
        spot: Spot,
        out: Tensor,
        keep: int,
    ) -> None:
        """Stores vectors of sums, which are neighbours, or only the first `keep`."""
        lanes = lanes_of(sums[0])
        for i, value in enumerate(sums):
            place = spot.at + i * lanes
            store_elements(b, pointers[id(out)], place, value, min(lanes, keep - i * lanes))
