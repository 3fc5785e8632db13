"""The places of a value where something holds, and how many there are: a size that data decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .merging import unmerge
from .tensor import Tensor

__all__ = ["Places"]


@dataclass(eq=False)
class Places(Kernel):
    """Row-major places of true elements of bool `value`, in order, to int64 `out`; their number to `count`.

    `out` has room for every element; one thread keeps the order.
    """

    value: Lazy
    out: Tensor
    count: Tensor
    family = "places"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.value)

    def writes(self) -> Sequence[Tensor]:
        return (self.out, self.count)

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            "places",
            self.value.shape,
            self.value.key,
            sharing(self.reads(), self.value),
            Leaf(self.out).key,
        )

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        shape = self.value.shape
        with b.when(tir.EQ(b.thread, int32(0))):
            found = b.stack("int32", 1)
            b.store(found, 0, int32(0))
            with b.loop(prod(shape)) as place:
                index = unmerge([list(range(len(shape)))], shape, [place]) if shape else []
                with b.when(self.value.at(Scope(b, pointers), index)):
                    b.store(pointers[id(self.out)], found.load(0), tir.Cast("int64", place))
                    b.store(found, 0, found.load(0) + 1)
            b.store(pointers[id(self.count)], 0, tir.Cast("int64", found.load(0)))
