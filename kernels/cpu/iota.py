"""Numbers in even steps, as a value: start, start + step, …"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..dims import Size
from .arithmetic import cast
from .builder import int32
from .lazy import Index, Lazy, Scope

__all__ = ["Iota"]


@dataclass(eq=False)
class Iota(Lazy):
    """start + i · step for i below `count`, of an integer type."""

    start: Size
    step: Size
    count: Size
    dtype: str = "int64"
    conditional = True  # it reads nothing, so loads do not tell how it depends on its index

    @property
    def shape(self) -> tuple[Size, ...]:  # type: ignore[override]
        return (self.count,)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("iota", str(self.start), str(self.step), self.shape, self.dtype)

    def parts(self) -> Sequence[Lazy]:
        return ()

    def at(self, scope: Scope, index: Index) -> Any:
        return cast(index[0] * int32(self.step) + int32(self.start), self.dtype)
