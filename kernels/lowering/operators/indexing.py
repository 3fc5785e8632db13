"""Operators whose places come from data, and running sums, sorting and masks along axes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ...cpu.builder import constant, int32
from ...cpu.elementwise import Elementwise
from ...cpu.lazy import Lazy, Leaf
from ...cpu.scan import RunningSum
from ...cpu.scatter import Scatter, safe_index
from ...cpu.topk import TopK
from ...dims import Size, fixed, larger
from ..attributes import describe, flag, integer, text
from ..registry import lowers
from ..state import Lowering
from .movement import constant_input, sizes_input, source_of


@lowers("GatherND", any_type=True)
def lower_gather_nd(state: Lowering, node: ir.Node) -> None:
    """Slices of `data` at coordinates; those outside are moved inside, never read beyond."""
    data, indices = source_of(state, node, 0), source_of(state, node, 1)
    batch = integer(node, "batch_dims", 0)
    depth, lead = fixed(indices.shape[-1], describe(node)), len(indices.shape) - 1
    shape = (*indices.shape[:-1], *data.shape[batch + depth :])
    _require_elements(node, data, shape)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place = list(index[:batch])
        for k in range(depth):
            at = sources[1].at(scope, [*index[:lead], int32(k)])
            place.append(safe_index(at, data.shape[batch + k]))
        return sources[0].at(scope, [*place, *index[lead:]])

    state.define(node.outputs[0], state.moved([data, indices], shape, pick, "gather-nd", batch, depth))


def _require_elements(node: ir.Node, data: Lazy, shape: tuple[Size, ...]) -> None:
    if 0 in data.shape and 0 not in shape:
        raise UnsupportedError("there is nothing to choose from", where=describe(node), got=list(data.shape))


_REDUCTIONS = ("none", "add", "mul", "min", "max")


@lowers("ScatterND", "ScatterElements", "Scatter", any_type=True)
def lower_scatter(state: Lowering, node: ir.Node) -> None:
    """A copy of the data with updates written at places, in order; all reductions."""
    data, indices, updates = (source_of(state, node, i) for i in range(3))
    out = state.new_tensor(node.name or "scatter", data.dtype, data.shape)
    _require_elements(node, data, updates.shape)
    _check_updates(state, node, data, indices, updates)
    state.steps.append(Elementwise(data, out))
    axis = None if node.op_type == "ScatterND" else integer(node, "axis", 0) % max(1, len(data.shape))
    operation = text(node, "reduction", "none")
    if operation not in _REDUCTIONS:
        raise ModelError(
            "unknown reduction", where=describe(node), expected=", ".join(_REDUCTIONS), got=repr(operation)
        )
    if 0 not in updates.shape:
        state.steps.append(Scatter(indices, updates, out, axis, operation))
    state.define(node.outputs[0], Leaf(out))


@lowers("OneHot", any_type=True)
def lower_one_hot(state: Lowering, node: ir.Node) -> None:
    """The on-value where an index (negative ones count from the end) names the position."""
    indices, values = source_of(state, node, 0), source_of(state, node, 2)
    (depth,) = sizes_input(state, node, 1, "the depth")
    rank = len(indices.shape) + 1
    axis = integer(node, "axis", -1) % rank
    shape = (*indices.shape[:axis], depth, *indices.shape[axis:])

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        hot = tir.Cast("int32", sources[1].at(scope, [*index[:axis], *index[axis + 1 :]]))
        hot = tir.Select(hot < 0, hot + int32(depth), hot)
        off, on = (sources[0].at(scope, [int32(i)]) for i in range(2))
        return tir.Select(tir.EQ(hot, index[axis]), on, off)

    state.define(
        node.outputs[0], state.moved([values, indices], shape, pick, "one-hot", axis, conditional=True)
    )


@lowers("CumSum", "CumProd")
def lower_running_sum(state: Lowering, node: ir.Node) -> None:
    """Along a constant axis, inclusive or exclusive, either way."""
    source = source_of(state, node)
    axis = constant_input(state, node, 1, "the axis")
    assert axis is not None
    place = int(axis.reshape(-1)[0]) % len(source.shape)
    out = state.new_tensor(node.name or "cumsum", source.dtype, source.shape)
    ways = flag(node, "exclusive"), flag(node, "reverse")
    state.steps.append(RunningSum(source, place, *ways, out, node.op_type == "CumProd"))
    state.define(node.outputs[0], Leaf(out))


@lowers("Trilu", any_type=True)
def lower_triangle(state: Lowering, node: ir.Node) -> None:
    """The upper or lower triangle of matrices, zero elsewhere; the diagonal must be constant."""
    source = source_of(state, node)
    given = node.inputs[1] if len(node.inputs) > 1 else None
    diagonal: Size = 0 if given is None else sizes_input(state, node, 1, "the diagonal")[0]
    limit = larger(*source.shape[-2:]) + 1
    if isinstance(diagonal, int) and isinstance(limit, int):
        diagonal = max(-limit, min(limit, diagonal))
    upper = flag(node, "upper", default=True)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        line = index[-2] + diagonal
        kept = index[-1] >= line if upper else index[-1] <= line
        value = sources[0].at(scope, index)
        zero = tir.NE(value, value) if source.dtype == "bool" else constant(0, source.dtype)
        return tir.Select(kept, value, zero)

    moved = state.moved([source], source.shape, pick, "trilu", diagonal, upper, conditional=True)
    state.define(node.outputs[0], moved)


@lowers("TopK")
def lower_top(state: Lowering, node: ir.Node) -> None:
    """The k best along an axis, always sorted; k must be constant."""
    source = Leaf(state.tensor(source_of(state, node)))
    axis = integer(node, "axis", -1) % len(source.shape)
    count: Size = integer(node, "k", 1)
    if len(node.inputs) > 1:
        (count,) = sizes_input(state, node, 1, "k")
    state.sizes.limit(count, source.shape[axis], f"{describe(node)}: k exceeds the axis")
    shape = (*source.shape[:axis], count, *source.shape[axis + 1 :])
    values = state.new_tensor(f"{node.name}.values", source.dtype, shape)
    places = state.new_tensor(f"{node.name}.places", "int64", shape)
    state.steps.append(TopK(source, axis, flag(node, "largest", default=True), values, places))
    for output, tensor in zip(node.outputs, (values, places), strict=False):
        state.define(output, Leaf(tensor))


def _check_updates(state: Lowering, node: ir.Node, data: Lazy, indices: Lazy, updates: Lazy) -> None:
    """Every element of the updates has its index, and a place of the data's rank."""
    expected: tuple[Any, ...] = indices.shape
    if node.op_type == "ScatterND":
        depth = indices.shape[-1] if indices.shape else 0
        if not isinstance(depth, int) or not 0 < depth <= len(data.shape):
            expected_depth = f"1..{len(data.shape)} coordinates"
            raise ModelError(
                "indices have a wrong shape", where=describe(node), expected=expected_depth, got=depth
            )
        expected = (*indices.shape[:-1], *data.shape[depth:])
    elif len(indices.shape) != len(data.shape):
        raise ModelError("indices have another rank than the data", where=describe(node))
    if len(updates.shape) != len(expected):
        raise ModelError(
            "updates have another rank than their indices",
            where=describe(node),
            expected=len(expected),
            got=len(updates.shape),
        )
    for given, wanted in zip(updates.shape, expected, strict=True):
        state.sizes.equal(given, wanted, f"{describe(node)}: the updates' sizes are not those of the indices")
