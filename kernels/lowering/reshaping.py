"""The same elements under another shape."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ..cpu.builder import int32
from ..cpu.lazy import Fill, Lazy, Leaf
from ..cpu.pixel_layout import channels_last
from ..cpu.tensor import contiguous
from ..dims import Size, is_fixed
from .attributes import describe, flag, integer, integers
from .state import Lowering, static_shape

__all__ = ["new_shape", "reshaped"]

Shape = tuple[Size, ...]


def new_shape(state: Lowering, node: ir.Node, old: Shape) -> Shape:
    """The shape that Reshape, Flatten, Squeeze or Unsqueeze gives to one of shape `old`."""
    if node.op_type == "Flatten":
        axis = integer(node, "axis", 1)
        axis += len(old) if axis < 0 else 0
        return (prod(old[:axis]), prod(old[axis:]))
    if node.op_type == "Reshape":
        return _asked(state, node, old)
    axes = _axes(state, node)
    if node.op_type == "Unsqueeze":
        rank = len(old) + len(axes or ())
        places = {a % rank for a in axes or ()}
        rest = iter(old)
        return tuple(1 if a in places else next(rest) for a in range(rank))
    gone = {a % len(old) for a in axes} if axes is not None else {a for a, n in enumerate(old) if n == 1}
    for axis in gone:
        state.sizes.equal(old[axis], 1, f"{describe(node)}: an axis that goes must be 1")
    return tuple(n for a, n in enumerate(old) if a not in gone)


def _axes(state: Lowering, node: ir.Node) -> list[int] | None:
    if "axes" in node.attributes:
        return list(integers(node, "axes", ()))
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None:
        return None
    array = state.constant(value)
    if array is None:
        raise UnsupportedError("the axes must be constant", where=describe(node), got=value.name)
    return [int(a) for a in array.reshape(-1)]


def _asked(state: Lowering, node: ir.Node, old: Shape) -> Shape:
    """0 keeps a size, -1 takes what is left."""
    asked = state.integers(node.inputs[1])
    if asked is None:
        return static_shape(node.outputs[0], describe(node))  # inference may know
    keep = not flag(node, "allowzero")
    if keep and any(n == 0 and i >= len(old) for i, n in enumerate(asked)):
        raise ModelError("a 0 in the shape has no size to keep", where=describe(node), got=list(asked))
    shape = [old[i] if n == 0 and keep else n for i, n in enumerate(asked)]
    where = f"{describe(node)}: the number of elements changes"
    if -1 in shape:
        place = shape.index(-1)
        rest = prod(n for i, n in enumerate(shape) if i != place)
        if rest == 0:
            raise ModelError("a size cannot be found", where=describe(node), got=list(asked))
        shape[place], over = divmod(prod(old), rest)
        state.sizes.equal(over, 0, where)
        return tuple(shape)
    for size in shape:
        state.sizes.not_negative(size, where)
    state.sizes.equal(prod(shape), prod(old), where)
    return tuple(shape)


def reshaped(state: Lowering, source: Lazy, shape: Shape) -> Lazy:
    """`source` with its elements in row-major order under `shape`."""
    if source.shape == shape:
        return source
    if isinstance(source, Fill):
        return Fill(source.value, source.dtype, shape)
    if isinstance(source, Leaf) and source.tensor.is_contiguous:
        return Leaf(source.tensor.view(shape, contiguous(shape)))
    old = source.shape
    if _only_ones_differ(old, shape):
        return _with_ones(state, source, shape)
    if isinstance(source, Leaf) and channels_last(source.tensor):
        return reshaped(state, Leaf(state.copy(source.tensor)), shape)
    if not is_fixed(*old, *shape):
        return _by_groups(state, source, shape)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        flat: Any = int32(0)
        for i, stride in zip(index, contiguous(shape), strict=True):
            flat = flat + i * stride
        place = [
            tir.floormod(tir.floordiv(flat, int32(s)), int32(n))
            for n, s in zip(old, contiguous(old), strict=True)
        ]
        return sources[0].at(scope, place)

    return state.moved([source], shape, pick, "reshape", old)


def _only_ones_differ(old: Shape, new: Shape) -> bool:
    return [n for n in old if n != 1] == [n for n in new if n != 1]


def _with_ones(state: Lowering, source: Lazy, shape: Shape) -> Lazy:
    """Axes of extent 1 come and go; strides of a tensor in memory just move along."""
    old = source.shape
    kept = [a for a, n in enumerate(shape) if n != 1]
    if isinstance(source, Leaf):
        own = [s for s, n in zip(source.tensor.strides, old, strict=True) if n != 1]
        strides: list[Size] = [0] * len(shape)
        for axis, stride in zip(kept, own, strict=True):
            strides[axis] = stride
        inner: Size = 1
        for axis in reversed(range(len(shape))):
            strides[axis] = inner if shape[axis] == 1 else strides[axis]
            inner = strides[axis] * shape[axis]
        return Leaf(source.tensor.view(shape, tuple(strides)))

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        values = iter([index[a] for a in kept])
        return sources[0].at(scope, [int32(0) if n == 1 else next(values) for n in old])

    return state.moved([source], shape, pick, "ones", old)


def _by_groups(state: Lowering, source: Lazy, shape: Shape) -> Lazy:
    """Axes that stay as they are keep their index: dividing by a size that is not known now is slow."""
    old = source.shape
    groups = _groups(old, shape)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place: list[Any] = [int32(0)] * len(old)
        for before, after in groups:
            flat: Any = int32(0)
            for axis, stride in zip(after, contiguous(tuple(shape[a] for a in after)), strict=True):
                flat = flat + index[axis] * int32(stride)
            for axis, stride in zip(before, contiguous(tuple(old[a] for a in before)), strict=True):
                rest = flat if stride == 1 else tir.floordiv(flat, int32(stride))
                place[axis] = rest if axis == before[0] else tir.floormod(rest, int32(old[axis]))
        return sources[0].at(scope, place)

    return state.moved([source], shape, pick, "reshape", old)


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Axes of both that hold the same number of elements, in order."""
    groups: list[tuple[list[int], list[int]]] = []
    left, right = list(range(len(old))), list(range(len(new)))
    while left and right:
        found = next(
            (i, j)
            for i, j in sorted(np.ndindex(len(left), len(right)), key=sum)
            if prod(old[a] for a in left[: i + 1]) == prod(new[a] for a in right[: j + 1])
            or (i, j) == (len(left) - 1, len(right) - 1)
        )
        i, j = found
        groups.append((left[: i + 1], right[: j + 1]))
        left, right = left[i + 1 :], right[j + 1 :]
    return groups
