"""Operators that only move data, or choose among it: they commute with Q and DQ.

move(DQ(x)) = DQ(move(x))          Q(move(y)) = move(Q(y))
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import onnx_ir as ir

__all__ = ["AxisRule", "Movement", "data_inputs", "movement_of", "moves"]

AxisRule = Callable[[ir.Node, int], int | None]
"""Where an axis of the data is in the result, unchanged and in one order; None where it is not."""

BYTES = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
WORDS = BYTES | {ir.DataType.INT16, ir.DataType.UINT16}


@dataclass(frozen=True)
class Movement:
    """`types`: integers that ONNX and onnxruntime have the operator for. `inputs`: how many of the node's
    inputs are data, 0 for all. `fits` says whether this node is one. `ordered`: it compares, so that scales
    must be known to be positive."""

    axis: AxisRule
    types: frozenset[ir.DataType]
    inputs: int = 1
    fits: Callable[[ir.Node], bool] = lambda node: True
    ordered: bool = False


_MOVEMENTS: dict[str, Movement] = {}


def moves(
    *operators: str,
    words: bool = False,
    inputs: int = 1,
    fits: Callable[[ir.Node], bool] = lambda node: True,
    ordered: bool = False,
) -> Callable[[AxisRule], AxisRule]:
    """Declares that these operators move data; `words`: that of 16 bits too; the rest as of Movement."""

    def register(axis: AxisRule) -> AxisRule:
        for operator in operators:
            assert operator not in _MOVEMENTS, operator
            _MOVEMENTS[operator] = Movement(axis, WORDS if words else BYTES, inputs, fits, ordered)
        return axis

    return register


@cache
def _load() -> None:
    package = import_module(".movements", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f".movements.{module.name}", __package__)


def movement_of(node: ir.Node | None) -> Movement | None:
    """How `node` moves data; None where it does something else."""
    _load()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    found = _MOVEMENTS.get(node.op_type)
    return found if found is not None and found.fits(node) else None


def data_inputs(node: ir.Node, movement: Movement) -> list[ir.Value]:
    """The inputs of `node` that are moved."""
    given = node.inputs[: movement.inputs] if movement.inputs else node.inputs
    return [value for value in given if value is not None]
