"""Parts of a value: from a start, in steps, along every axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ..cpu.lazy import Lazy, Leaf
from ..dims import Dim, Size, larger, smaller
from .attributes import describe, integers
from .state import Lowering

__all__ = ["Part", "slice_parts", "sliced"]

_TO_THE_END = 10**9  # what exporters write for an end that no axis reaches


@dataclass(frozen=True)
class Part:
    """`count` places of an axis, `step` apart, the first at `start`."""

    start: Size
    count: Size
    step: int = 1

    @classmethod
    def of(cls, places: range) -> Part:
        """The same as numbers."""
        return cls(places.start, len(places), places.step)


def slice_parts(state: Lowering, node: ir.Node, shape: Sequence[Size]) -> list[Part]:
    """What a Slice takes of each axis; bounds are inputs since opset 10, attributes before."""
    if "starts" in node.attributes:
        starts, ends = (tuple(integers(node, name, ())) for name in ("starts", "ends"))
        axes: Sequence[Size] = integers(node, "axes", range(len(starts)))
        steps: Sequence[Size] = [1] * len(starts)
    else:
        starts, ends = (_input(state, node, i) or () for i in (1, 2))
        axes = _input(state, node, 3) or range(len(starts))
        steps = _input(state, node, 4) or [1] * len(starts)
    parts = [Part(0, n) for n in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not isinstance(step, int) or not isinstance(axis, int):
            raise UnsupportedError("axes and steps must be constant", where=describe(node), got=step)
        if step == 0:
            raise ModelError("a step is 0", where=describe(node))
        place = axis % len(shape)
        parts[place] = _part(state, describe(node), (start, end), shape[place], step)
    return parts


def _input(state: Lowering, node: ir.Node, position: int) -> tuple[Size, ...] | None:
    value = node.inputs[position] if len(node.inputs) > position else None
    if value is None:
        return None
    sizes = state.integers(value)
    if sizes is None:
        raise UnsupportedError("a slice bound must be constant", where=describe(node), got=value.name)
    return sizes


def _part(state: Lowering, where: str, bounds: tuple[Size, Size], extent: Size, step: int) -> Part:
    start, end = bounds
    if isinstance(start, int) and isinstance(end, int) and isinstance(extent, int):
        # a bound far below zero means "through the first element" when stepping back
        through = step < 0 and end < -extent
        return Part.of(range(extent)[slice(start, None if through else end, step)])
    low, high = (0, extent) if step > 0 else (-1, extent - 1)
    first = _place(state, where, start, extent, (low, high))
    last = _place(state, where, end, extent, (low, high))
    count = (last - first + step - 1) // step if step > 0 else (first - last - step - 1) // -step
    return Part(first, larger(0, count), step)


def _place(state: Lowering, where: str, bound: Size, extent: Size, limits: tuple[Size, Size]) -> Size:
    """A bound inside the axis; what counts from the end is known by its sign."""
    low, high = limits
    if isinstance(bound, int) and abs(bound) >= _TO_THE_END and not isinstance(extent, int):
        return low if bound < 0 else high
    if isinstance(bound, Dim) and bound.bounds()[1] >= 0 > bound.bounds()[0]:
        state.sizes.not_negative(bound, f"{where}: a bound that is computed must not be negative")
    elif bound < 0:
        bound = extent + bound
        return larger(low, bound)
    return smaller(bound, high)


def sliced(state: Lowering, source: Lazy, places: Sequence[Part | range]) -> Lazy:
    """Elements at `start + i · step` of every axis."""
    parts = [Part.of(p) if isinstance(p, range) else p for p in places]
    shape = tuple(part.count for part in parts)
    if isinstance(source, Leaf) and all(part.step > 0 for part in parts):
        tensor = source.tensor
        offset: Size = 0
        for part, stride in zip(parts, tensor.strides, strict=True):
            offset = offset + part.start * stride
        strides = tuple(s * part.step for part, s in zip(parts, tensor.strides, strict=True))
        return Leaf(tensor.view(shape, strides, offset))
    steps = tuple((part.start, part.step) for part in parts)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        return sources[0].at(scope, [i * step + start for i, (start, step) in zip(index, steps, strict=True)])

    return state.moved([source], shape, pick, "slice", steps)
