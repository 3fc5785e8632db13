"""Operators that move elements: they stay lazy, as index arithmetic, or become views."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.arithmetic import maximum, minimum
from ...cpu.builder import int32
from ...cpu.lazy import Fill, Lazy, Leaf, broadcast_index, broadcast_shapes
from ...cpu.pixel_layout import channels_last
from ...cpu.scatter import safe_index
from ...cpu.tensor import contiguous
from ..attributes import describe, integer, integers, text
from ..joining import integer_concat, joined
from ..registry import lowers
from ..state import Lowering, static_shape


def source_of(state: Lowering, node: ir.Node, position: int = 0) -> Lazy:
    """An input as an expression."""
    value = node.inputs[position]
    assert value is not None
    return state.lazy(value)


def constant_input(state: Lowering, node: ir.Node, position: int, what: str) -> np.ndarray | None:
    """An input that must be known at compile time; None when it is absent."""
    value = node.inputs[position] if len(node.inputs) > position else None
    if value is None:
        return None
    array = state.constant(value)
    if array is None:
        raise UnsupportedError(f"{what} must be constant", where=describe(node), got=value.name)
    return array


@lowers("Identity", "Dropout")
def lower_identity(state: Lowering, node: ir.Node) -> None:
    """The input itself (Dropout does nothing at inference)."""
    state.define(node.outputs[0], source_of(state, node))


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def lower_reshape(state: Lowering, node: ir.Node) -> None:
    """The same elements under another shape: a view of contiguous memory, else index arithmetic."""
    shape = static_shape(node.outputs[0], describe(node))
    state.define(node.outputs[0], reshaped(state, source_of(state, node), shape))


def reshaped(state: Lowering, source: Lazy, shape: tuple[int, ...]) -> Lazy:
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


def _only_ones_differ(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    return [n for n in old if n != 1] == [n for n in new if n != 1]


def _with_ones(state: Lowering, source: Lazy, shape: tuple[int, ...]) -> Lazy:
    """Axes of extent 1 come and go; strides of a tensor in memory just move along."""
    old = source.shape
    kept = [a for a, n in enumerate(shape) if n != 1]
    if isinstance(source, Leaf):
        own = [s for s, n in zip(source.tensor.strides, old, strict=True) if n != 1]
        strides = [0] * len(shape)
        for axis, stride in zip(kept, own, strict=True):
            strides[axis] = stride
        inner = 1
        for axis in reversed(range(len(shape))):
            strides[axis] = inner if shape[axis] == 1 else strides[axis]
            inner = strides[axis] * shape[axis]
        return Leaf(source.tensor.view(shape, tuple(strides)))

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        values = iter([index[a] for a in kept])
        return sources[0].at(scope, [int32(0) if n == 1 else next(values) for n in old])

    return state.moved([source], shape, pick, "ones", old)


@lowers("Transpose")
def lower_transpose(state: Lowering, node: ir.Node) -> None:
    """Axes in another order: strides of a tensor in memory are permuted."""
    source = source_of(state, node)
    perm = integers(node, "perm", tuple(reversed(range(len(source.shape)))))
    state.define(node.outputs[0], transposed(state, source, perm))


def transposed(state: Lowering, source: Lazy, perm: tuple[int, ...]) -> Lazy:
    """numpy's transpose."""
    shape = tuple(source.shape[p] for p in perm)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place = [int32(0)] * len(perm)
        for i, p in zip(index, perm, strict=True):
            place[p] = i
        return sources[0].at(scope, place)

    return state.moved([source], shape, pick, "transpose", perm)


@lowers("Expand")
def lower_expand(state: Lowering, node: ir.Node) -> None:
    """numpy's broadcast to a constant shape."""
    source = source_of(state, node)
    target = constant_input(state, node, 1, "the shape")
    assert target is not None
    shape = broadcast_shapes([source.shape, tuple(int(n) for n in target)])
    state.define(node.outputs[0], _broadcast(state, source, shape))


def _broadcast(state: Lowering, source: Lazy, shape: tuple[int, ...]) -> Lazy:
    old = source.shape

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        return sources[0].at(scope, broadcast_index(index, old))

    return state.moved([source], shape, pick, "expand", old)


@lowers("Tile")
def lower_tile(state: Lowering, node: ir.Node) -> None:
    """Repeats along axes."""
    source = source_of(state, node)
    repeats = constant_input(state, node, 1, "the repeats")
    assert repeats is not None
    old = source.shape
    shape = tuple(n * int(r) for n, r in zip(old, repeats, strict=True))

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        return sources[0].at(scope, [tir.floormod(i, int32(n)) for i, n in zip(index, old, strict=True)])

    state.define(node.outputs[0], state.moved([source], shape, pick, "tile", old))


@lowers("Slice")
def lower_slice(state: Lowering, node: ir.Node) -> None:
    """Constant starts, ends, axes and steps (inputs since opset 10, attributes before)."""
    source = source_of(state, node)
    rank = len(source.shape)
    if "starts" in node.attributes:
        starts, ends = list(integers(node, "starts", ())), list(integers(node, "ends", ()))
        axes, steps = list(integers(node, "axes", range(len(starts)))), [1] * len(starts)
    else:
        given = [constant_input(state, node, i, "a slice bound") for i in range(1, 5)]
        assert given[0] is not None
        assert given[1] is not None
        starts, ends = given[0].tolist(), given[1].tolist()
        axes = list(range(len(starts))) if given[2] is None else given[2].tolist()
        steps = [1] * len(starts) if given[3] is None else given[3].tolist()
    ranges = [range(n) for n in source.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        n = source.shape[axis % rank]
        ranges[axis % rank] = range(n)[slice(start, _end(end, n, step), step)]
    state.define(node.outputs[0], sliced(state, source, ranges))


def _end(end: int, extent: int, step: int) -> int | None:
    """A bound far below zero means "through the first element" when stepping back."""
    return None if step < 0 and end < -extent else end


def sliced(state: Lowering, source: Lazy, ranges: list[range]) -> Lazy:
    """Elements at `start + i · step` of every axis."""
    shape = tuple(len(r) for r in ranges)
    if isinstance(source, Leaf) and all(r.step > 0 for r in ranges):
        tensor = source.tensor
        offset = sum(r.start * s for r, s in zip(ranges, tensor.strides, strict=True))
        strides = tuple(s * r.step for r, s in zip(ranges, tensor.strides, strict=True))
        return Leaf(tensor.view(shape, strides, offset))
    steps = tuple((r.start, r.step) for r in ranges)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        return sources[0].at(scope, [i * step + start for i, (start, step) in zip(index, steps, strict=True)])

    return state.moved([source], shape, pick, "slice", steps)


@lowers("Split")
def lower_split(state: Lowering, node: ir.Node) -> None:
    """Parts along an axis: each is a slice."""
    source = source_of(state, node)
    axis = integer(node, "axis", 0) % len(source.shape)
    start = 0
    for output in node.outputs:
        size = static_shape(output, describe(node))[axis]
        ranges = [range(n) for n in source.shape]
        ranges[axis] = range(start, start + size)
        state.define(output, sliced(state, source, ranges))
        start += size


@lowers("Concat")
def lower_concat(state: Lowering, node: ir.Node) -> None:
    """Every input is written to its part of one tensor."""
    if integer_concat(state, node):
        return
    parts = [state.lazy(v) for v in node.inputs if v is not None]
    axis = integer(node, "axis", 1) % len(parts[0].shape)
    state.define(node.outputs[0], joined(state, parts, axis, node.name or "concat"))


@lowers("Pad")
def lower_pad(state: Lowering, node: ir.Node) -> None:
    """Constant, edge, reflect and wrap padding by constant amounts (negative ones crop)."""
    source = source_of(state, node)
    rank = len(source.shape)
    pads = list(integers(node, "pads", ()))
    if not pads:
        array = constant_input(state, node, 1, "the pads")
        assert array is not None
        pads = array.tolist()
    axes_array = constant_input(state, node, 3, "the axes")
    axes = list(range(rank)) if axes_array is None else [int(a) % rank for a in axes_array]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    fill: Lazy = Fill(_pad_value(node), source.dtype)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        fill = source_of(state, node, 2)
    state.define(node.outputs[0], padded(state, source, before, after, text(node, "mode", "constant"), fill))


def _pad_value(node: ir.Node) -> float:
    attribute = node.attributes.get("value")
    return 0.0 if attribute is None else attribute.as_float()


def padded(state: Lowering, source: Lazy, before: list[int], after: list[int], mode: str, fill: Lazy) -> Lazy:
    """`source` with margins; outside it every read is moved to a valid place first."""
    old = source.shape
    shape = tuple(b + n + a for b, n, a in zip(before, old, after, strict=True))

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place, inside = [], []
        for i, b, n, m in zip(index, before, old, shape, strict=True):
            at = i - b if b else i
            if b <= 0 and m - b <= n:
                place.append(at)
                continue
            inside.append(tir.And(at >= 0, at < n))
            place.append(_outside(at, n, mode, max(b, 0)))
        value = sources[0].at(scope, place)
        if mode != "constant" or not inside:
            return value
        condition = inside[0]
        for more in inside[1:]:
            condition = tir.And(condition, more)
        return tir.Select(condition, value, sources[1].at(scope, [int32(0)] * len(sources[1].shape)))

    label = ("pad", tuple(before), tuple(after), mode)
    return state.moved([source, fill], shape, pick, *label, conditional=True)


def _outside(at: Any, extent: int, mode: str, reach: int) -> Any:
    if mode == "reflect":
        period = max(1, 2 * (extent - 1))
        folded = tir.truncmod(at + period * (1 + reach // period), int32(period))
        return minimum(folded, period - folded)
    if mode == "wrap":
        return tir.truncmod(at + extent * (1 + reach // extent), int32(extent))
    return minimum(maximum(at, int32(0)), int32(extent - 1))


@lowers("DepthToSpace")
def lower_depth_to_space(state: Lowering, node: ir.Node) -> None:
    """(N, C·b², H, W) → (N, C, H·b, W·b)."""
    source = source_of(state, node)
    n, c, h, w = source.shape
    b = integer(node, "blocksize", 1)
    deep = c // (b * b)
    column_first = text(node, "mode", "DCR") == "CRD"

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        y, x = index[2], index[3]
        block = tir.floormod(y, int32(b)) * b + tir.floormod(x, int32(b))
        channel = index[1] * (b * b) + block if column_first else block * deep + index[1]
        return sources[0].at(scope, [index[0], channel, tir.floordiv(y, int32(b)), tir.floordiv(x, int32(b))])

    state.define(
        node.outputs[0], state.moved([source], (n, deep, h * b, w * b), pick, "d2s", b, column_first)
    )


@lowers("SpaceToDepth")
def lower_space_to_depth(state: Lowering, node: ir.Node) -> None:
    """(N, C, H·b, W·b) → (N, b²·C, H, W)."""
    source = source_of(state, node)
    n, c, h, w = source.shape
    b = integer(node, "blocksize", 1)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        block = tir.floordiv(index[1], int32(c))
        y = index[2] * b + tir.floordiv(block, int32(b))
        x = index[3] * b + tir.floormod(block, int32(b))
        return sources[0].at(scope, [index[0], tir.floormod(index[1], int32(c)), y, x])

    state.define(node.outputs[0], state.moved([source], (n, c * b * b, h // b, w // b), pick, "s2d", b))


@lowers("Gather")
def lower_gather(state: Lowering, node: ir.Node) -> None:
    """Slices of `data` along an axis; indices outside are moved inside, never read beyond."""
    data, indices = source_of(state, node, 0), source_of(state, node, 1)
    axis = integer(node, "axis", 0) % len(data.shape)
    extent, rank = data.shape[axis], len(indices.shape)
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        at = safe_index(sources[1].at(scope, index[axis : axis + rank]), extent)
        return sources[0].at(scope, [*index[:axis], at, *index[axis + rank :]])

    state.define(node.outputs[0], state.moved([data, indices], shape, pick, "gather", axis))


@lowers("GatherElements")
def lower_gather_elements(state: Lowering, node: ir.Node) -> None:
    """One element of `data` for each index."""
    data, indices = source_of(state, node, 0), source_of(state, node, 1)
    axis = integer(node, "axis", 0) % len(data.shape)
    extent = data.shape[axis]

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        at = safe_index(sources[1].at(scope, index), extent)
        return sources[0].at(scope, [*index[:axis], at, *index[axis + 1 :]])

    state.define(node.outputs[0], state.moved([data, indices], indices.shape, pick, "gather-elements", axis))
