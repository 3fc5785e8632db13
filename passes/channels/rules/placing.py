"""Operators that move elements about: Concat, Split, Slice, Gather, Pad, Expand, Tile."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..axes import Axis, Positions, Ties, size_of
from ..registry import ties
from .elementwise import broadcast
from .operands import axes_given, constant, given, rank, same_sizes

__all__: list[str] = []


def _keep(found: Ties, data: ir.Value, result: ir.Value, but: int) -> None:
    """All axes keep their order but one."""
    for axis in range(rank(data)):
        if axis != but:
            found.same((data, axis), (result, axis))


def _axis(node: ir.Node, value: ir.Value, default: int = 0) -> int:
    return int(node.attributes.get_int("axis", default)) % max(1, rank(value))


@ties("Concat", repeatable=True)
def _concat(node: ir.Node, found: Ties) -> None:
    result = node.outputs[0]
    axis, start = _axis(node, result), 0
    for value in given(node):
        size = size_of((value, axis))
        if size is None:
            return
        _keep(found, value, result, axis)
        found.part((result, axis), range(start, start + size), (value, axis), range(size))
        start += size


@ties("Split")
def _split(node: ir.Node, found: Ties) -> None:
    data = given(node)[0]
    axis, start = _axis(node, data), 0
    sizes = [size_of((output, axis)) for output in node.outputs]
    if any(size is None for size in sizes):
        return
    for output, size in zip(node.outputs, sizes, strict=True):
        assert size is not None
        _keep(found, data, output, axis)
        found.part((data, axis), range(start, start + size), (output, axis), range(size))
        start += size


@ties("Slice")
def _slice(node: ir.Node, found: Ties) -> None:
    data, result = given(node)[0], node.outputs[0]
    starts, ends = constant(node, 1), constant(node, 2)
    if starts is None or ends is None or len(starts) != len(ends):
        return
    axes = axes_given(node, "", 3) if len(node.inputs) > 3 and node.inputs[3] else list(range(len(starts)))
    steps = constant(node, 4) if len(node.inputs) > 4 and node.inputs[4] else np.ones(len(starts), np.int64)
    if axes is None or steps is None or len(axes) != len(starts) or len(steps) != len(starts):
        return
    cut = {a: slice(*map(int, s)) for a, *s in zip(axes, starts, ends, steps, strict=True)}
    for axis in range(rank(data)):
        taken = _taken(cut.get(axis), (data, axis))
        if axis not in cut or (taken is not None and taken == range(size_of((data, axis)) or 0)):
            found.same((data, axis), (result, axis))
        elif taken is not None and len(taken) == size_of((result, axis)):
            found.part((result, axis), range(len(taken)), (data, axis), taken)


def _taken(cut: slice | None, axis: Axis) -> range | None:
    """Which positions of an axis a slice takes."""
    size = size_of(axis)
    if size is None or cut is None or cut.step == 0:
        return None
    # an end before the first element stands for the start of the axis where steps are negative
    stop = None if cut.step < 0 and cut.stop < -size else cut.stop
    return range(size)[cut.start : stop : cut.step]


@ties("Gather")
def _gather(node: ir.Node, found: Ties) -> None:
    data, indices = given(node)[:2]
    axis, result = _axis(node, data), node.outputs[0]
    added = rank(indices) - 1
    for own in range(rank(data)):
        if own != axis:
            found.same((data, own), (result, own if own < axis else own + added))
    where, size = constant(node, 1), size_of((data, axis))
    if where is None or size is None or not _inside(where, size):
        # a table is looked up: its rows are numbered by the indices
        for own in range(rank(indices)):
            found.same((indices, own), (result, axis + own))
    elif rank(indices) == 0:
        found.pin((data, axis), f"{node.op_type} {node.name} takes one position", where % size)
    elif rank(indices) == 1:
        found.part((result, axis), range(len(where)), (data, axis), where % size)


def _inside(where: Positions, size: int) -> bool:
    return bool(((where >= -size) & (where < size)).all())


@ties("Pad")
def _pad(node: ir.Node, found: Ties) -> None:
    data, result = given(node)[0], node.outputs[0]
    pads = constant(node, 1)
    axes = axes_given(node, "", 3) if len(node.inputs) > 3 and node.inputs[3] else list(range(rank(data)))
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        return
    before = dict(zip(axes, pads[: len(axes)].tolist(), strict=True))
    after = dict(zip(axes, pads[len(axes) :].tolist(), strict=True))
    for axis in range(rank(data)):
        size = size_of((data, axis))
        if before.get(axis, 0) == after.get(axis, 0) == 0:
            found.same((data, axis), (result, axis))
        elif node.attributes.get_string("mode", "constant") == "constant" and size is not None:
            start = before.get(axis, 0)
            left = range(max(0, -start), size + min(0, after.get(axis, 0)))
            found.part((result, axis), [start + i for i in left], (data, axis), left)


@ties("Expand")
def _expand(node: ir.Node, found: Ties) -> None:
    broadcast(found, given(node)[:1], node.outputs[0])


@ties("Tile")
def _tile(node: ir.Node, found: Ties) -> None:
    data, result = given(node)[0], node.outputs[0]
    for axis in range(rank(data)):
        size, total = size_of((data, axis)), size_of((result, axis))
        if size == 1:
            found.free((data, axis), (result, axis))
        elif same_sizes((data, axis), (result, axis)):
            found.same((data, axis), (result, axis))
        elif size and total and total % size == 0:
            found.part((result, axis), range(total), (data, axis), np.arange(total) % size)
