"""Operators that move elements: they stay lazy, as index arithmetic, or become views."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ...cpu.builder import int32
from ...cpu.lazy import Fill, Lazy, broadcast_index
from ...cpu.scatter import safe_index
from ...dims import Size, is_fixed
from ..attributes import describe, integer, integers, text
from ..joining import integer_concat, joined
from ..padding import padded
from ..registry import lowers
from ..reshaping import new_shape, reshaped
from ..slicing import Part, slice_parts, sliced
from ..state import Lowering

__all__ = ["constant_input", "padded", "reshaped", "sizes_input", "sliced", "source_of", "transposed"]


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


def sizes_input(state: Lowering, node: ir.Node, position: int, what: str) -> tuple[Size, ...]:
    """An input whose elements are sizes, known when the model is compiled or opened."""
    value = node.inputs[position] if len(node.inputs) > position else None
    sizes = state.integers(value)
    if sizes is None:
        advice = "make it constant, or compute it from shapes of inputs"
        got = None if value is None else value.name
        raise UnsupportedError(f"{what} must be known", where=describe(node), got=got, advice=advice)
    return sizes


@lowers("Identity", any_type=True)
def lower_identity(state: Lowering, node: ir.Node) -> None:
    """The input itself."""
    state.define(node.outputs[0], source_of(state, node))


@lowers("Dropout", any_type=True)
def lower_dropout(state: Lowering, node: ir.Node) -> None:
    """The input itself, and a mask that keeps everything; what training drops is random."""
    source = source_of(state, node)
    training = constant_input(state, node, 2, "whether to train")
    ratio = constant_input(state, node, 1, "the ratio") if training is not None and training.any() else None
    if training is not None and training.any() and (ratio is None or ratio.any()):
        raise UnsupportedError(
            "drops elements at random", where=describe(node), advice="export the model for inference"
        )
    state.define(node.outputs[0], source)
    if len(node.outputs) > 1:
        state.define(node.outputs[1], Fill(True, "bool", source.shape))


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze", any_type=True)
def lower_reshape(state: Lowering, node: ir.Node) -> None:
    """The same elements under another shape: a view of contiguous memory, else index arithmetic."""
    source = source_of(state, node)
    shape = new_shape(state, node, source.shape)
    if is_fixed(*shape, *source.shape) and prod(shape) != prod(source.shape):
        raise ModelError(
            "the new shape has another number of elements",
            where=describe(node),
            expected=f"{prod(source.shape)} of {list(source.shape)}",
            got=f"{prod(shape)} of {list(shape)}",
        )
    state.define(node.outputs[0], reshaped(state, source, shape))


@lowers("Transpose", any_type=True)
def lower_transpose(state: Lowering, node: ir.Node) -> None:
    """Axes in another order: strides of a tensor in memory are permuted."""
    source = source_of(state, node)
    rank = len(source.shape)
    perm = integers(node, "perm", tuple(reversed(range(rank))))
    if sorted(perm) != list(range(rank)):
        expected = f"every axis of {rank} once"
        raise ModelError("perm is no permutation", where=describe(node), expected=expected, got=list(perm))
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


@lowers("Expand", any_type=True)
def lower_expand(state: Lowering, node: ir.Node) -> None:
    """numpy's broadcast to a shape that is known."""
    source = source_of(state, node)
    shape = state.broadcast([source.shape, sizes_input(state, node, 1, "the shape")], describe(node))
    state.define(node.outputs[0], _broadcast(state, source, shape))


def _broadcast(state: Lowering, source: Lazy, shape: tuple[Size, ...]) -> Lazy:
    old = source.shape

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        return sources[0].at(scope, broadcast_index(index, old))

    return state.moved([source], shape, pick, "expand", old)


@lowers("Tile", any_type=True)
def lower_tile(state: Lowering, node: ir.Node) -> None:
    """Repeats along axes."""
    source = source_of(state, node)
    repeats = sizes_input(state, node, 1, "the repeats")
    old = source.shape
    shape = tuple(n * r for n, r in zip(old, repeats, strict=True))

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        return sources[0].at(scope, [tir.floormod(i, int32(n)) for i, n in zip(index, old, strict=True)])

    state.define(node.outputs[0], state.moved([source], shape, pick, "tile", old))


@lowers("Slice", any_type=True)
def lower_slice(state: Lowering, node: ir.Node) -> None:
    """Starts, ends, axes and steps are inputs since opset 10, attributes before."""
    source = source_of(state, node)
    state.define(node.outputs[0], sliced(state, source, slice_parts(state, node, source.shape)))


@lowers("Split", any_type=True)
def lower_split(state: Lowering, node: ir.Node) -> None:
    """Parts along an axis: each is a slice."""
    source = source_of(state, node)
    axis = integer(node, "axis", 0) % len(source.shape)
    start: Size = 0
    for output, size in zip(node.outputs, _split_sizes(state, node, source.shape[axis]), strict=True):
        parts = [Part(0, n) for n in source.shape]
        parts[axis] = Part(start, size)
        state.define(output, sliced(state, source, parts))
        start = start + size


def _split_sizes(state: Lowering, node: ir.Node, whole: Size) -> list[Size]:
    """Given by input or attribute, else equal parts of which the last may be smaller."""
    count = len(node.outputs)
    given: Sequence[Size] = integers(node, "split", ())
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        given = sizes_input(state, node, 1, "the sizes of parts")
    if given:
        state.sizes.equal(sum(given), whole, f"{describe(node)}: the parts' sizes")
        return list(given)
    part = -(-whole // count)
    last = state.sizes.not_negative(whole - part * (count - 1), f"{describe(node)}: too many parts")
    return [*([part] * (count - 1)), last]


@lowers("Concat", any_type=True)
def lower_concat(state: Lowering, node: ir.Node) -> None:
    """Every input is written to its part of one tensor."""
    if integer_concat(state, node):
        return
    parts = [state.lazy(v) for v in node.inputs if v is not None]
    axis = integer(node, "axis", 1) % len(parts[0].shape)
    state.define(node.outputs[0], joined(state, parts, axis, node.name or "concat"))


@lowers("Pad", any_type=True)
def lower_pad(state: Lowering, node: ir.Node) -> None:
    """Constant, edge, reflect and wrap padding by constant amounts (negative ones crop)."""
    source = source_of(state, node)
    rank = len(source.shape)
    pads: Sequence[Size] = integers(node, "pads", ()) or sizes_input(state, node, 1, "the pads")
    axes_array = constant_input(state, node, 3, "the axes")
    axes = list(range(rank)) if axes_array is None else [int(a) % rank for a in axes_array]
    before: list[Size] = [0] * rank
    after: list[Size] = [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    fill: Lazy = Fill(_pad_value(node), source.dtype)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        fill = source_of(state, node, 2)
    state.define(node.outputs[0], padded(state, source, before, after, text(node, "mode", "constant"), fill))


def _pad_value(node: ir.Node) -> float:
    attribute = node.attributes.get("value")
    return 0.0 if attribute is None else attribute.as_float()


@lowers("DepthToSpace", any_type=True)
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


@lowers("SpaceToDepth", any_type=True)
def lower_space_to_depth(state: Lowering, node: ir.Node) -> None:
    """(N, C, H·b, W·b) → (N, b²·C, H, W)."""
    source = source_of(state, node)
    n, c, h, w = source.shape
    b = integer(node, "blocksize", 1)
    column_first = text(node, "mode", "DCR") == "CRD"

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        inner = int32(b * b) if column_first else int32(c)
        first, second = tir.floordiv(index[1], inner), tir.floormod(index[1], inner)
        channel, block = (first, second) if column_first else (second, first)
        y = index[2] * b + tir.floordiv(block, int32(b))
        x = index[3] * b + tir.floormod(block, int32(b))
        return sources[0].at(scope, [index[0], channel, y, x])

    shape = (n, c * b * b, h // b, w // b)
    state.define(node.outputs[0], state.moved([source], shape, pick, "s2d", b, column_first))


@lowers("Gather", any_type=True)
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


@lowers("GatherElements", any_type=True)
def lower_gather_elements(state: Lowering, node: ir.Node) -> None:
    """One element of `data` for each index."""
    data, indices = source_of(state, node, 0), source_of(state, node, 1)
    axis = integer(node, "axis", 0) % len(data.shape)
    extent = data.shape[axis]
    if len(indices.shape) != len(data.shape):
        raise ModelError(
            "indices have another rank than the data",
            where=describe(node),
            expected=len(data.shape),
            got=len(indices.shape),
        )

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        at = safe_index(sources[1].at(scope, index), extent)
        return sources[0].at(scope, [*index[:axis], at, *index[axis + 1 :]])

    state.define(node.outputs[0], state.moved([data, indices], indices.shape, pick, "gather-elements", axis))
