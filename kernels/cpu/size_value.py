"""A number that is known when the model runs, as a value: a size, or how many turns a loop has made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..dims import Size, expression
from .arithmetic import cast
from .lazy import Index, Lazy, Scope

__all__ = ["SizeValue"]


@dataclass(eq=False)
class SizeValue(Lazy):
    """`size` as a value of one element, of an integer type."""

    size: Size
    dtype: str = "int64"
    shape: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        return ("size", str(self.size), self.dtype)

    def parts(self) -> Sequence[Lazy]:
        return ()

    def at(self, scope: Scope, index: Index) -> Any:
        return cast(expression(self.size), self.dtype)
