"""Operators that make values out of shapes and constants; what folding left of them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ...cpu.iota import Iota
from ...cpu.lazy import Fill
from ...dims import Size, is_fixed, larger
from ..attributes import describe, integer
from ..registry import lowers
from ..shape_values import Known, sizes_array
from ..state import Lowering, dtype_name
from .movement import constant_input, reshaped, sizes_input, source_of


@lowers("Constant", any_type=True)
def lower_constant(state: Lowering, node: ir.Node) -> None:
    """A tensor in the graph, left by an operator that was expanded late."""
    value = ir.convenience.get_const_tensor(node.outputs[0])
    if value is None:
        raise UnsupportedError("only tensors of numbers", where=describe(node))
    state.arrays[node.outputs[0]] = value.numpy()


@lowers("Shape", any_type=True)
def lower_shape(state: Lowering, node: ir.Node) -> None:
    """The input's extents (a part of them since opset 15)."""
    end = node.attributes.get("end")
    part = _shape_of(state, node)[slice(integer(node, "start", 0), None if end is None else end.as_int())]
    state.learn(node.outputs[0], Known("int64", sizes_array(part)))


@lowers("Size", any_type=True)
def lower_size(state: Lowering, node: ir.Node) -> None:
    """How many elements the input has."""
    state.learn(node.outputs[0], Known("int64", sizes_array([prod(_shape_of(state, node))], ())))


def _shape_of(state: Lowering, node: ir.Node) -> tuple[Size, ...]:
    known = state.known.get(node.inputs[0]) if node.inputs[0] is not None else None
    return source_of(state, node).shape if known is None else known.values.shape


@lowers("ConstantOfShape", any_type=True)
def lower_constant_of_shape(state: Lowering, node: ir.Node) -> None:
    """One value everywhere, under a shape that is known."""
    shape = sizes_input(state, node, 0, "the shape")
    for size in shape:
        state.sizes.not_negative(size, f"{describe(node)}: a size is negative")
    attribute = node.attributes.get("value")
    value = np.zeros(1, np.float32) if attribute is None else attribute.as_tensor().numpy()
    state.values[node.outputs[0]] = Fill(value.reshape(-1)[0].item(), str(value.dtype), shape)


@lowers("Range", any_type=True)
def lower_range(state: Lowering, node: ir.Node) -> None:
    """start, start + delta … below limit, all known."""
    known = [state.integers(value) for value in node.inputs]
    dtype = dtype_name(node.outputs[0], describe(node))
    if all(sizes is not None for sizes in known) and any(not is_fixed(*sizes) for sizes in known if sizes):
        start, limit, delta = (sizes[0] for sizes in known if sizes is not None)
        state.define(node.outputs[0], Iota(start, delta, counted(start, limit, delta), dtype))
        return
    bounds = [constant_input(state, node, i, "a bound") for i in range(3)]
    first, last, step = (b.reshape(-1)[0] for b in bounds if b is not None)
    count = _counted(node, first, last, step)
    state.arrays[node.outputs[0]] = (first + np.arange(count) * step).astype(first.dtype)


_MOST_NUMBERS = 1 << 26
"""Of a range, and elements of a matrix, that are stored as a constant."""


def _counted(node: ir.Node, first: Any, last: Any, step: Any) -> int:
    """How many numbers a range of constants has; a small model must not ask for terabytes."""
    if step == 0 or not all(np.isfinite(bound) for bound in (first, last, step)):
        raise ModelError(
            "a range has no end",
            where=describe(node),
            expected="a step other than 0",
            got=f"{first}, {last}, {step}",
        )
    count = max(0, int(np.ceil((float(last) - float(first)) / float(step))))
    if count > _MOST_NUMBERS:
        raise UnsupportedError(
            "a range is too long",
            where=describe(node),
            expected=f"at most {_MOST_NUMBERS} numbers",
            got=count,
        )
    return count


def counted(start: Size, limit: Size, delta: Size) -> Size:
    """How many numbers there are from `start` to before `limit`."""
    if delta == 1:
        return larger(0, limit - start)
    return larger(0, -1 * ((start - limit) // delta))


@lowers("EyeLike", any_type=True)
def lower_eye(state: Lowering, node: ir.Node) -> None:
    """Ones on a diagonal of a matrix as large as the input."""
    rows, columns = source_of(state, node).shape
    dtype = dtype_name(node.outputs[0], describe(node))
    offset = integer(node, "k", 0)
    if isinstance(rows, int) and isinstance(columns, int) and rows * columns <= _MOST_NUMBERS:
        state.arrays[node.outputs[0]] = np.eye(rows, columns, offset, dtype=dtype)
        return
    down = reshaped(state, Iota(offset, 1, rows, "int32"), (rows, 1))
    hot = state.elementwise("Equal", [down, Iota(0, 1, columns, "int32")], "bool")
    state.define(node.outputs[0], state.elementwise("Cast", [hot], dtype))
