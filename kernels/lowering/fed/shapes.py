"""Shapes that are fed: the declared one is taken, and the run checks that it is what is fed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from ...cpu.builder import int32
from ..attributes import flag, integer
from ..operators.movement import reshaped, source_of
from ..registry import rule_for
from ..requiring import Read, require
from ..state import Lowering
from .base import assumed, declared, fed, fixed_shape, takes_fed


def _lower_as(state: Lowering, node: ir.Node, position: int, array: object) -> bool:
    """The ordinary rule, with an input taken for a constant."""
    rule = rule_for(node.op_type)
    assert rule is not None
    with assumed(state, node.inputs[position], array):
        rule(state, node)
    return True


def _equals(values: Sequence[int]) -> Any:
    return lambda read: [tir.EQ(read(0, i), int32(value)) for i, value in enumerate(values)]


@takes_fed("Reshape")
def fed_reshape(state: Lowering, node: ir.Node) -> bool:
    """-1 stands for what is left, 0 for the input's size unless zeros are allowed."""
    shape, out = fed(state, node, 1), declared(node)
    if shape is None or out is None or shape.shape != (len(out),):
        return False
    source = source_of(state, node)
    old = fixed_shape(source)
    if old is None or prod(old) != prod(out):
        return False
    keeps = not flag(node, "allowzero")

    def checks(read: Read) -> list[Any]:
        found = []
        for axis, size in enumerate(out):
            value = read(0, axis)
            fits = tir.Or(tir.EQ(value, int32(size)), tir.EQ(value, int32(-1)))
            if keeps:
                same = axis < len(old) and old[axis] == size
                zero = tir.EQ(value, int32(0))
                fits = tir.Or(fits, zero) if same else tir.And(fits, tir.Not(zero))
            found.append(fits)
        return found

    require(state, node, [shape], checks)
    state.define(node.outputs[0], reshaped(state, source, out))
    return True


@takes_fed("Expand")
def fed_expand(state: Lowering, node: ir.Node) -> bool:
    """Sizes of 1 give way to the input's."""
    shape, out = fed(state, node, 1), declared(node)
    old = fixed_shape(source_of(state, node))
    if shape is None or out is None or old is None or shape.shape[0] > len(out):
        return False
    count = int(shape.shape[0])

    def checks(read: Read) -> list[Any]:
        found = []
        for back in range(1, count + 1):
            size, own = out[-back], old[-back] if back <= len(old) else 1
            equal = tir.EQ(read(0, count - back), int32(size))
            found.append(tir.Or(equal, tir.EQ(read(0, count - back), int32(1))) if own == size else equal)
        return found

    require(state, node, [shape], checks)
    return _lower_as(state, node, 1, out[len(out) - count :] if count else [])


@takes_fed("Tile")
def fed_tile(state: Lowering, node: ir.Node) -> bool:
    """How often follows from both shapes."""
    repeats, out, old = fed(state, node, 1), declared(node), fixed_shape(source_of(state, node))
    if repeats is None or out is None or not old or len(old) != len(out) or 0 in old:
        return False
    if any(m % n for n, m in zip(old, out, strict=True)):
        return False
    times = [m // n for n, m in zip(old, out, strict=True)]
    require(state, node, [repeats], _equals(times))
    return _lower_as(state, node, 1, times)


@takes_fed("ConstantOfShape")
def fed_constant_of_shape(state: Lowering, node: ir.Node) -> bool:
    """The declared shape is what must be fed."""
    shape, out = fed(state, node, 0), declared(node)
    if shape is None or out is None or shape.shape != (len(out),):
        return False
    require(state, node, [shape], _equals(out))
    return _lower_as(state, node, 0, out)


@takes_fed("Split")
def fed_split(state: Lowering, node: ir.Node) -> bool:
    """The declared sizes of the parts are what must be fed."""
    sizes, rank = fed(state, node, 1), len(source_of(state, node).shape)
    outs = [declared(node, i) for i in range(len(node.outputs))]
    if sizes is None or any(out is None or len(out) != rank for out in outs):
        return False
    axis = integer(node, "axis", 0) % rank
    parts = [out[axis] for out in outs if out is not None]
    require(state, node, [sizes], _equals(parts))
    return _lower_as(state, node, 1, parts)


@takes_fed("OneHot")
def fed_one_hot(state: Lowering, node: ir.Node) -> bool:
    """The depth is a size of the declared shape."""
    depth, out = fed(state, node, 1), declared(node)
    if depth is None or not out:
        return False
    size = out[integer(node, "axis", -1) % len(out)]
    require(state, node, [depth], _equals([size]))
    return _lower_as(state, node, 1, [size] if depth.shape else size)


@takes_fed("TopK")
def fed_top_k(state: Lowering, node: ir.Node) -> bool:
    """k is a size of the declared shape."""
    k, out = fed(state, node, 1), declared(node)
    if k is None or not out:
        return False
    size = out[integer(node, "axis", -1) % len(out)]
    require(state, node, [k], _equals([size]))
    return _lower_as(state, node, 1, [size])


@takes_fed("Squeeze", "Unsqueeze")
def fed_squeeze(state: Lowering, node: ir.Node) -> bool:
    """Axes of 1 come or go: the shape without them must be the other one."""
    axes, out, source = fed(state, node, 1), declared(node), source_of(state, node)
    old = fixed_shape(source)
    if axes is None or out is None or old is None or prod(old) != prod(out) or not axes.shape:
        return False
    longer, shorter = (old, out) if node.op_type == "Squeeze" else (out, old)
    count = int(axes.shape[0])
    if len(longer) - len(shorter) != count:
        return False

    def checks(read: Read) -> list[Any]:
        """Of each axis of the longer shape: it is named and 1, or it is the next one of the shorter."""
        found, passed = [], int32(0)
        for axis, size in enumerate(longer):
            named: Any = tir.const(False, "bool")
            for j in range(count):
                both = [tir.EQ(read(0, j), int32(a)) for a in (axis, axis - len(longer))]
                named = tir.Or(named, tir.Or(*both))
            same: Any = tir.const(False, "bool")
            for place, other in enumerate(shorter):
                if other == size:
                    same = tir.Or(same, tir.EQ(int32(axis) - passed, int32(place)))
            found.append(tir.Select(named, tir.const(size == 1, "bool"), same))
            passed = passed + tir.Cast("int32", named)
        return [*found, tir.EQ(passed, int32(count))]

    require(state, node, [axes], checks)
    state.define(node.outputs[0], reshaped(state, source, out))
    return True
