"""Bounds, offsets and steps that are fed: read where elements are computed."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from ...cpu.arithmetic import cast
from ...cpu.builder import int32
from ...cpu.lazy import Fill, Lazy, Leaf, Moved
from ..attributes import flag, text
from ..operators.movement import source_of
from ..requiring import Read, require
from ..state import Lowering
from .base import declared, fed, fixed_shape, takes_fed


def _number(scope: Any, value: Lazy, at: int = 0) -> Any:
    return tir.Cast("int32", value.at(scope, [int32(at)] if value.shape else []))


def _stored(state: Lowering, node: ir.Node, position: int) -> Leaf | None:
    """A small input in memory, constant or not; None where it is absent."""
    value = node.inputs[position] if position < len(node.inputs) else None
    return None if value is None else Leaf(state.stored(value))


@takes_fed("Clip")
def fed_clip(state: Lowering, node: ir.Node) -> bool:
    """min(max(x, low), high)."""
    low, high = fed(state, node, 1), fed(state, node, 2)
    if low is None and high is None:
        return False
    result = source_of(state, node)
    for position, name in ((1, "Max"), (2, "Min")):
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is not None:
            result = state.elementwise(name, [result, state.lazy(value)], result.dtype)
    state.define(node.outputs[0], result)
    return True


@takes_fed("Trilu")
def fed_trilu(state: Lowering, node: ir.Node) -> bool:
    """What lies on the k-th diagonal and on one side of it."""
    k, source = fed(state, node, 1), source_of(state, node)
    if k is None:
        return False
    upper, stored = flag(node, "upper", default=True), Leaf(state.tensor(k))

    def pick(sources: Any, scope: Any, index: list[Any]) -> Any:
        diagonal, value = index[-1] - index[-2], sources[0].at(scope, index)
        inside = diagonal >= _number(scope, stored) if upper else diagonal <= _number(scope, stored)
        return tir.Select(inside, value, Fill(0, source.dtype).at(scope, []))

    label = ("fed trilu", upper)
    state.define(node.outputs[0], state.moved([source, stored], source.shape, pick, *label, conditional=True))
    return True


@takes_fed("Range")
def fed_range(state: Lowering, node: ir.Node) -> bool:
    """start + i · delta; how many there are must be as declared."""
    out = declared(node)
    if out is None or all(fed(state, node, i) is None for i in range(3)):
        return False
    stored = [Leaf(state.stored(value)) for value in node.inputs if value is not None]
    (start, limit, delta), dtype = stored, stored[0].dtype

    def count(scope: Any, index: list[Any]) -> Any:
        first, last, step = (tir.Cast("float64", value.at(scope, [])) for value in stored)
        return tir.Cast("int32", tir.ceil((last - first) / step))

    found = Moved((start, limit, delta), (), "int32", count, ("range count",))
    size = int32(out[0])
    require(state, node, [found], lambda read: [tir.EQ(tir.max(read(0, 0), int32(0)), size)])

    def pick(scope: Any, index: list[Any]) -> Any:
        first, step = (value.at(scope, []) for value in (start, delta))
        return first + cast(index[0], str(first.ty.dtype)) * step

    state.define(node.outputs[0], Moved((start, delta), out, dtype, pick, ("fed range",)))
    return True


@takes_fed("Slice")
def fed_slice(state: Lowering, node: ir.Node) -> bool:
    """Elements from `start` in steps; how many there are must be as declared."""
    out, source = declared(node), source_of(state, node)
    old = fixed_shape(source)
    if out is None or old is None or all(fed(state, node, i) is None for i in range(1, 5)):
        return False
    lists = [_stored(state, node, i) for i in range(1, 5)]
    parts = _SliceParts(lists, old)

    def checks(read: Read) -> list[Any]:
        given = lambda which, j: read(parts.place[which], j)  # noqa: E731
        return [tir.EQ(parts.count(given, axis), int32(n)) for axis, n in enumerate(out)]

    require(state, node, parts.present, checks)

    plan = Leaf(state.tensor(parts.plan()))

    def pick(sources: Any, scope: Any, index: list[Any]) -> Any:
        place = [
            plan.at(scope, [int32(2 * axis)]) + i * plan.at(scope, [int32(2 * axis + 1)])
            for axis, i in enumerate(index)
        ]
        return sources[0].at(scope, place)

    state.define(node.outputs[0], state.moved([source, plan], out, pick, "fed slice"))
    return True


class _SliceParts:
    """Where a slice starts, its step and its length, by what is fed: starts, ends, axes, steps."""

    def __init__(self, lists: list[Leaf | None], shape: tuple[int, ...]) -> None:
        self.lists, self.shape = lists, shape
        self.present = [value for value in lists if value is not None]
        self.place = [self.present.index(value) if value is not None else -1 for value in lists]
        assert lists[0] is not None
        self.given = int(lists[0].shape[0])

    def plan(self) -> Lazy:
        """int32: start and step of each axis in turn."""

        def pick(scope: Any, index: list[Any]) -> Any:
            def given(which: int, j: int) -> Any:
                value = self.lists[which]
                assert value is not None
                return _number(scope, value, j)

            found: Any = int32(0)
            for axis in range(len(self.shape)):
                for place, value in (
                    (2 * axis, self.start(given, axis)),
                    (2 * axis + 1, self.step(given, axis)),
                ):
                    found = tir.Select(tir.EQ(index[0], int32(place)), value, found)
            return found

        label = ("slice plan", self.shape, tuple(self.place), self.given)
        return Moved(tuple(self.present), (2 * len(self.shape),), "int32", pick, label)

    def _of(self, given: Any, which: int, axis: int, default: int) -> Any:
        rank, value = len(self.shape), int32(default)
        if self.lists[which] is None:
            return value
        for j in range(self.given):
            if self.lists[2] is None:
                value = given(which, j) if j == axis else value
                continue
            named = tir.Or(*(tir.EQ(given(2, j), int32(a)) for a in (axis, axis - rank)))
            value = tir.Select(named, given(which, j), value)
        return value

    def step(self, given: Any, axis: int) -> Any:
        return self._of(given, 3, axis, 1)

    def _bound(self, value: Any, axis: int, low: Any, high: Any) -> Any:
        size = int32(self.shape[axis])
        value = tir.Select(value < int32(0), value + size, value)
        return tir.min(tir.max(value, low), high)

    def start(self, given: Any, axis: int) -> Any:
        size, back = int32(self.shape[axis]), self.step(given, axis) < int32(0)
        return self._bound(self._of(given, 0, axis, 0), axis, int32(0), tir.Select(back, size - 1, size))

    def count(self, given: Any, axis: int) -> Any:
        size, step = int32(self.shape[axis]), self.step(given, axis)
        back = step < int32(0)
        end = self._of(given, 1, axis, self.shape[axis])
        end = self._bound(end, axis, tir.Select(back, int32(-1), int32(0)), size)
        length = end - self.start(given, axis)
        ahead = tir.truncdiv(
            length + step - tir.Select(back, int32(-1), int32(1)),
            tir.Select(tir.EQ(step, int32(0)), int32(1), step),
        )
        return tir.max(ahead, int32(0))


@takes_fed("Pad")
def fed_pad(state: Lowering, node: ir.Node) -> bool:
    """Margins that are fed, negative ones too; the sizes must be as declared."""
    out, source = declared(node), source_of(state, node)
    old = fixed_shape(source)
    if out is None or not old or (fed(state, node, 1) is None and fed(state, node, 3) is None):
        return False
    pads, axes, mode = _stored(state, node, 1), _stored(state, node, 3), text(node, "mode", "constant")
    assert pads is not None
    given, rank = int(pads.shape[0]) // 2, len(old)
    fill: Lazy = (
        Fill(0, source.dtype) if len(node.inputs) < 3 or node.inputs[2] is None else source_of(state, node, 2)
    )
    small = [pads] if axes is None else [pads, axes]

    def margin(read: Read, axis: int, side: int) -> Any:
        value: Any = int32(0)
        for j in range(given):
            here = read(0, j + side * given)
            if axes is None:
                value = here if j == axis else value
            else:
                named = tir.Or(*(tir.EQ(read(1, j), int32(a)) for a in (axis, axis - rank)))
                value = tir.Select(named, here, value)
        return value

    def checks(read: Read) -> list[Any]:
        return [
            tir.EQ(margin(read, a, 0) + margin(read, a, 1) + int32(n), int32(m))
            for a, (n, m) in enumerate(zip(old, out, strict=True))
        ]

    require(state, node, small, checks)

    def pick(sources: Any, scope: Any, index: list[Any]) -> Any:
        def read(position: int, at: int) -> Any:
            return _number(scope, small[position], at)

        inside: Any = tir.const(True, "bool")
        place = []
        for axis, (i, n) in enumerate(zip(index, old, strict=True)):
            at = i - margin(read, axis, 0)
            inside = tir.And(inside, tir.And(at >= 0, at < n))
            place.append(_folded(at, n, mode))
        value = sources[0].at(scope, place)
        if mode != "constant":
            return value
        return tir.Select(inside, value, sources[1].at(scope, [int32(0)] * len(sources[1].shape)))

    moved = state.moved([source, fill, *small], out, pick, "fed pad", mode, conditional=True)
    state.define(node.outputs[0], moved)
    return True


def _rest(at: Any, period: int) -> Any:
    """Of negative numbers too: indices are simplified as if there were none."""
    return tir.truncmod(tir.truncmod(at, int32(period)) + period, int32(period))


def _folded(at: Any, extent: int, mode: str) -> Any:
    """A valid place for any, however far outside."""
    if mode == "reflect":
        period = max(1, 2 * (extent - 1))
        folded = _rest(at, period)
        return tir.min(folded, period - folded)
    if mode == "wrap":
        return _rest(at, extent)
    return tir.min(tir.max(at, int32(0)), int32(extent - 1))
