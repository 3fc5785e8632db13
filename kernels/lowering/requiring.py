"""What must hold of values that a run brings; a run of others fails and says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from ..cpu.builder import int32
from ..cpu.lazy import Lazy, Leaf, Moved
from .attributes import describe
from .state import Lowering
from .tree import Repeat

__all__ = ["Read", "require"]

Read = Callable[[int, int], Any]
"""Of a position of an input and an index into it: its element there, as int32."""
_NUMBERS = count()


def require(
    state: Lowering, node: ir.Node, inputs: Sequence[Lazy], checks: Callable[[Read], Sequence[Any]]
) -> None:
    """Appends a step that fails the run where not all `checks` of elements of small `inputs` hold.

    Nothing that is lowered later runs then.
    """
    stored = tuple(Leaf(state.tensor(value)) for value in inputs)

    def broken(scope: Any, index: list[Any]) -> Any:
        def read(position: int, at: int) -> Any:
            place = [int32(at)] if stored[position].shape else []
            return tir.Cast("int32", stored[position].at(scope, place))

        wrong: Any = tir.const(False, "bool")
        for check in checks(read):
            wrong = tir.Or(wrong, tir.Not(check))
        return wrong

    number = next(_NUMBERS)
    flag = state.new_tensor(f"broken{number}", "bool", ())
    state.compute(Moved(stored, (), "bool", broken, ("require", number)), flag)
    failure = f"{describe(node)}: what is fed would give another shape than the model declares"
    if failure not in state.sizes.failures:
        state.sizes.failures.append(failure)
    # a loop without room for a single turn fails at its first one
    state.steps.append(
        Repeat([], f"turn:require{number}", 1, flag, room=0, failure=failure, family="require")
    )
