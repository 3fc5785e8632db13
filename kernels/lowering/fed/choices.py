"""Axes that are fed: what each possible choice gives is computed, and the run takes the one that is fed.

Slow where the shapes leave many choices, never wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from ...cpu.builder import int32
from ...cpu.lazy import Lazy, Leaf, Moved
from ..attributes import flag
from ..operators.movement import source_of
from ..registry import rule_for
from ..requiring import Read, require
from ..state import Lowering
from .base import assumed, declared, fed, fixed_shape, takes_fed

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


@takes_fed(*(f"Reduce{name}" for name in _REDUCTIONS))
def fed_reduce(state: Lowering, node: ir.Node) -> bool:
    """All sets of axes that give the declared shape."""
    axes, out, old = fed(state, node, 1), declared(node), fixed_shape(source_of(state, node))
    if axes is None or out is None or old is None or not axes.shape:
        return False
    count, keeps = int(axes.shape[0]), flag(node, "keepdims", default=True)
    sets = [s for s in combinations(range(len(old)), count) if _reduced(old, s, keeps) == out]
    return _take_one(state, node, axes, [list(s) for s in sets], len(old))


def _reduced(shape: tuple[int, ...], axes: Sequence[int], keeps: bool) -> tuple[int, ...]:
    kept = [1 if axis in axes else size for axis, size in enumerate(shape) if keeps or axis not in axes]
    return tuple(kept)


@takes_fed("CumSum", "CumProd")
def fed_running(state: Lowering, node: ir.Node) -> bool:
    """Every axis."""
    axis, rank = fed(state, node, 1), len(source_of(state, node).shape)
    if axis is None:
        return False
    return _take_one(state, node, axis, [[a] for a in range(rank)], rank)


def _take_one(state: Lowering, node: ir.Node, axes: Lazy, sets: list[list[int]], rank: int) -> bool:
    rule = rule_for(node.op_type)
    if not sets or rule is None:
        return False
    axes = Leaf(state.tensor(axes))
    require(state, node, [axes], lambda read: [_any(_is(read, chosen, rank) for chosen in sets)])
    out, results = node.outputs[0], []
    for chosen in sets:
        with assumed(state, node.inputs[1], chosen if axes.shape else chosen[0]):
            rule(state, node)
        results.append(Leaf(state.tensor(state.values.pop(out))))
    state.define(out, _picked(axes, sets, results, rank))
    return True


def _picked(axes: Leaf, sets: list[list[int]], results: Sequence[Leaf], rank: int) -> Lazy:
    """The result whose set is fed."""

    def pick(scope: Any, index: list[Any]) -> Any:
        def read(position: int, at: int) -> Any:
            return tir.Cast("int32", axes.at(scope, [int32(at)] if axes.shape else []))

        value = results[-1].at(scope, index)
        for chosen, result in zip(reversed(sets[:-1]), reversed(results[:-1]), strict=True):
            value = tir.Select(_is(read, chosen, rank), result.at(scope, index), value)
        return value

    label = ("picked", tuple(map(tuple, sets)), rank)
    return Moved((axes, *results), results[0].shape, results[0].dtype, pick, label, conditional=True)


def _is(read: Read, chosen: Sequence[int], rank: int) -> Any:
    """Whether all axes that are fed are in a set of as many."""
    found: Any = tir.const(True, "bool")
    for j in range(len(chosen)):
        names = [tir.EQ(read(0, j), int32(a)) for axis in chosen for a in (axis, axis - rank)]
        found = tir.And(found, _any(names))
    return found


def _any(conditions: Any) -> Any:
    found: Any = tir.const(False, "bool")
    for condition in conditions:
        found = tir.Or(found, condition)
    return found
