"""Operators that make values out of shapes and constants; what folding left of them."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.lazy import Fill
from ..attributes import describe, integer
from ..registry import lowers
from ..state import Lowering, dtype_name, static_shape
from .movement import constant_input, source_of


@lowers("Constant")
def lower_constant(state: Lowering, node: ir.Node) -> None:
    """A tensor in the graph, left by an operator that was expanded late."""
    value = ir.convenience.get_const_tensor(node.outputs[0])
    if value is None:
        raise UnsupportedError("only tensors of numbers", where=describe(node))
    state.arrays[node.outputs[0]] = value.numpy()


@lowers("Shape")
def lower_shape(state: Lowering, node: ir.Node) -> None:
    """The input's extents (a part of them since opset 15), known at compile time."""
    shape = source_of(state, node).shape
    end = node.attributes.get("end")
    part = shape[slice(integer(node, "start", 0), None if end is None else end.as_int())]
    state.arrays[node.outputs[0]] = np.array(part, np.int64)


@lowers("Size")
def lower_size(state: Lowering, node: ir.Node) -> None:
    """How many elements the input has."""
    state.arrays[node.outputs[0]] = np.array(prod(source_of(state, node).shape), np.int64)


@lowers("ConstantOfShape")
def lower_constant_of_shape(state: Lowering, node: ir.Node) -> None:
    """One value everywhere; the shape must be constant."""
    shape = constant_input(state, node, 0, "the shape")
    assert shape is not None
    attribute = node.attributes.get("value")
    value = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
    state.values[node.outputs[0]] = Fill(
        value.reshape(-1)[0].item(), str(value.dtype), tuple(int(n) for n in shape)
    )


@lowers("Range")
def lower_range(state: Lowering, node: ir.Node) -> None:
    """start, start + delta … below limit, all constant."""
    bounds = [constant_input(state, node, i, "a bound") for i in range(3)]
    start, limit, delta = (b.reshape(-1)[0] for b in bounds if b is not None)
    count = max(0, int(np.ceil((limit - start) / delta)))
    state.arrays[node.outputs[0]] = (start + np.arange(count) * delta).astype(start.dtype)


@lowers("EyeLike")
def lower_eye(state: Lowering, node: ir.Node) -> None:
    """Ones on a diagonal of a matrix as large as the input."""
    shape = static_shape(node.outputs[0], describe(node))
    dtype = dtype_name(node.outputs[0], describe(node))
    state.arrays[node.outputs[0]] = np.eye(shape[0], shape[1], integer(node, "k", 0), dtype=dtype)


@lowers("NonZero")
def lower_non_zero(state: Lowering, node: ir.Node) -> None:
    """Coordinates of what is not zero in a constant; of anything else the shape depends on data."""
    array = constant_input(state, node, 0, "what NonZero searches")
    assert array is not None
    state.arrays[node.outputs[0]] = np.array(np.nonzero(array), np.int64).reshape(array.ndim, -1)


@lowers("Compress", "Unique")
def lower_unsized(state: Lowering, node: ir.Node) -> None:
    """Refused: how many elements are left depends on data."""
    raise UnsupportedError("the size of the result depends on data", where=describe(node))
