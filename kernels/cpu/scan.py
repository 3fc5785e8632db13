"""Running sums and products along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..dims import Dim
from .builder import VECTORIZED, Builder, Pointer, constant, int32
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .merging import unmerge
from .tensor import Tensor

__all__ = ["RunningSum"]


@dataclass(eq=False)
class RunningSum(Kernel):
    """out[i] = Σ value[j] (or Π) over j ≤ i; j < i when `exclusive`, from the end when `reverse`."""

    value: Lazy
    axis: int
    exclusive: bool
    reverse: bool
    out: Tensor
    product: bool = False
    family = "scan"

    def reads(self) -> Sequence[Tensor]:
        return leaves(self.value)

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        how = (self.axis, self.exclusive, self.reverse, self.product)
        return ("scan", how, self.value.key, Leaf(self.out).key, sharing(self.reads(), self.value))

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        shape = self.out.shape
        outer, inner = prod(shape[: self.axis]), prod(shape[self.axis + 1 :])
        full, tail = divmod(inner, b.isa.lanes)
        scope = Scope(b, pointers)
        with b.split(outer) as row:
            if full != 0:
                with b.loop(full) as v:
                    self._lanes(scope, row, v * b.isa.lanes, b.isa.lanes)
            if isinstance(tail, Dim):
                with b.loop(tail, full * b.isa.lanes) as column:
                    self._lanes(scope, row, column, 1)
            elif tail:
                self._lanes(scope, row, int32(full * b.isa.lanes), tail)

    def _lanes(self, scope: Scope, row: Any, start: Any, lanes: int) -> None:
        """The sums of `lanes` neighbouring columns."""
        b, dtype, n = scope.builder, self.out.dtype, self.out.shape[self.axis]
        total = b.stack(dtype, lanes)
        b.store(total, 0, constant(int(self.product), dtype, lanes))
        with b.loop(n) as step, b.loop(lanes, kind=VECTORIZED) as lane:
            at = int32(n - 1) - step if self.reverse else step
            index = self._index(row, at, lane + start)
            place = b.simplify(Leaf(self.out).offset(index))
            target = scope.pointers[id(self.out)]
            if self.exclusive:
                before = b.let(total.load(lane))
                b.store(total, lane, self._joined(before, self.value.at(scope, index)))
                b.store(target, place, before)
            else:
                after = b.let(self._joined(total.load(lane), self.value.at(scope, index)))
                b.store(total, lane, after)
                b.store(target, place, after)

    def _joined(self, total: Any, value: Any) -> Any:
        return total * value if self.product else total + value

    def _index(self, row: Any, at: Any, column: Any) -> list[Any]:
        shape, axis = self.out.shape, self.axis
        groups = [list(range(axis)), [axis], list(range(axis + 1, len(shape)))]
        places = [p for g, p in zip(groups, (row, at, column), strict=True) if g]
        return unmerge([g for g in groups if g], shape, places)
