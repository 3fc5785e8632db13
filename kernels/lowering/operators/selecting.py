"""Operators whose result is as large as data decide: through memory for the most there can be."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.builder import int32
from ...cpu.lazy import Lazy, Leaf
from ...cpu.places import Places
from ...cpu.tensor import contiguous
from ...dims import Size, smaller
from ..attributes import describe, integer
from ..registry import lowers
from ..reshaping import reshaped
from ..state import Lowering
from .movement import source_of


def places_of(state: Lowering, truth: Lazy, name: str, most: Size | None = None) -> Lazy:
    """Row-major places (int64, as many as there are) of what holds in a bool value; at most `most`."""
    total = prod(truth.shape)
    out = state.new_tensor(name, "int64", (total,))
    count, scalar = state.sizes.measure(name, total if most is None else smaller(total, most))
    state.steps.append(Places(truth, out, scalar))
    return Leaf(out.view((count,), (1,)))


@lowers("NonZero", any_type=True)
def lower_non_zero(state: Lowering, node: ir.Node) -> None:
    """Coordinates (one row for each axis) of what is not zero."""
    array = state.constant(node.inputs[0])
    if array is not None:
        state.arrays[node.outputs[0]] = np.array(np.nonzero(array), np.int64).reshape(array.ndim, -1)
        return
    source = source_of(state, node)
    if not source.shape:
        source = reshaped(state, source, (1,))
    truth = source if source.dtype == "bool" else state.elementwise("Cast", [source], "bool")
    places = places_of(state, truth, node.outputs[0].name or "places")
    strides, old = contiguous(source.shape), source.shape

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        flat = tir.Cast("int32", sources[0].at(scope, [index[1]]))
        rows = [
            tir.floormod(tir.floordiv(flat, int32(s)), int32(n)) for n, s in zip(old, strides, strict=True)
        ]
        result = rows[-1]
        for axis in reversed(range(len(rows) - 1)):
            result = tir.Select(tir.EQ(index[0], int32(axis)), rows[axis], result)
        return tir.Cast("int64", result)

    shape = (len(old), places.shape[0])
    state.define(node.outputs[0], state.moved([places], shape, pick, "coordinates", old, conditional=True))


@lowers("Compress", any_type=True)
def lower_compress(state: Lowering, node: ir.Node) -> None:
    """Slices along an axis (of the elements in a row without one) where a condition holds."""
    data, condition = source_of(state, node, 0), source_of(state, node, 1)
    if "axis" not in node.attributes:
        data = reshaped(state, data, (prod(data.shape),))
    axis = integer(node, "axis", 0) % len(data.shape)
    extent = data.shape[axis]
    state.sizes.limit(condition.shape[0], extent, f"{describe(node)}: more conditions than elements")
    places = places_of(state, condition, node.outputs[0].name or "places")

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        at = tir.Cast("int32", sources[1].at(scope, [index[axis]]))
        return sources[0].at(scope, [*index[:axis], at, *index[axis + 1 :]])

    shape = (*data.shape[:axis], places.shape[0], *data.shape[axis + 1 :])
    state.define(node.outputs[0], state.moved([data, places], shape, pick, "compress", axis))


@lowers("Unique", any_type=True)
def lower_unsized(state: Lowering, node: ir.Node) -> None:
    """Refused: how many elements are left depends on data."""
    raise UnsupportedError("the size of the result depends on data", where=describe(node))
