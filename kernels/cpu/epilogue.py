"""What a matrix or convolution kernel does to a finished tile before it is stored.

The elementwise operators after a convolution (bias, activation, residual add …) form a small tree whose leaf
`Accumulator` is the convolution's own result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .lazy import Elementwise, Fill, Index, Lazy, Leaf, Scope

__all__ = ["Accumulator", "evaluate"]


@dataclass(eq=False)
class Accumulator(Lazy):
    """The raw result of the kernel that the epilogue belongs to."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def key(self) -> tuple[Any, ...]:
        return ("accumulator",)

    def parts(self) -> Sequence[Lazy]:
        return ()

    def at(self, scope: Scope, index: Index) -> Any:
        raise AssertionError("an accumulator lives in registers; use evaluate()")


def evaluate(tree: Lazy, scope: Scope, accumulated: Any, operand: Callable[[Leaf], Any]) -> Any:
    """The epilogue's value for one vector; `operand` loads what belongs to the same elements."""
    if isinstance(tree, Accumulator):
        return accumulated
    if isinstance(tree, Leaf):
        return operand(tree)
    if isinstance(tree, Fill):
        return tree.at(scope, [])
    assert isinstance(tree, Elementwise), tree
    return tree.apply(scope, [evaluate(a, scope, accumulated, operand) for a in tree.args])
