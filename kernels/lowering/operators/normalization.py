"""Normalisations over groups, neighbouring channels and vectors."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.arithmetic import maximum, minimum
from ...cpu.builder import constant, int32
from ...cpu.lazy import Fill, Lazy, Leaf
from ...cpu.size_value import SizeValue
from ...dims import is_fixed
from ..attributes import describe, integer, number
from ..registry import lowers
from ..state import Lowering
from ..variants import is_wide
from .movement import reshaped, source_of
from .reduction import normalised, positions_along, reduced


def _float32_tensor(state: Lowering, node: ir.Node) -> Leaf:
    source = source_of(state, node)
    if source.dtype != "float32":
        raise UnsupportedError("only float32", where=describe(node), got=source.dtype)
    return Leaf(state.tensor(source))


@lowers("GroupNormalization", takes=is_wide)
def lower_group_normalization(state: Lowering, node: ir.Node) -> None:
    """Groups of channels normalised together; scale and bias for each channel (opset 21) or group (18)."""
    source = _float32_tensor(state, node)
    n, c, *rest = source.shape
    groups = integer(node, "num_groups", 1)
    grouped = state.tensor(reshaped(state, source, (n, groups, c // groups, *rest)))
    axes = tuple(range(2, len(source.shape) + 1))
    normal = normalised(state, Leaf(grouped), axes, number(node, "epsilon", 1e-5))
    for operation, position in (("Mul", 1), ("Add", 2)):
        operand = source_of(state, node, position)
        per_channel = operand.shape == (c,)
        extents = (groups, c // groups) if per_channel else (groups, 1)
        operand = reshaped(state, operand, (*extents, *([1] * len(rest))))
        normal = state.elementwise(operation, [normal, operand], "float32")
    state.define(node.outputs[0], reshaped(state, normal, source.shape))


@lowers("LRN", takes=is_wide)
def lower_local_response(state: Lowering, node: ir.Node) -> None:
    """x / (bias + α / size · Σ x²)^β, the sum over `size` neighbouring channels."""
    source = _float32_tensor(state, node)
    size, channels = integer(node, "size", 1), source.shape[1]
    first = -((size - 1) // 2)

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        total: Any = None
        for shift in range(first, first + size):
            at = index[1] + shift
            inside = tir.And(at >= 0, at < channels)
            at = minimum(maximum(at, int32(0)), int32(channels - 1))
            x = sources[0].at(scope, [index[0], at, *index[2:]])
            term = tir.Select(inside, x * x, constant(0.0, "float32"))
            total = term if total is None else total + term
        return total

    squares = state.moved([source], source.shape, pick, "lrn", size, conditional=True)
    scale = Fill(number(node, "alpha", 1e-4) / size, "float32")
    base = state.elementwise("Mul", [squares, scale], "float32")
    base = state.elementwise("Add", [base, Fill(number(node, "bias", 1.0), "float32")], "float32")
    factor = state.elementwise("Pow", [base], "float32", exponent=-number(node, "beta", 0.75))
    state.define(node.outputs[0], state.elementwise("Mul", [source, factor], "float32"))


@lowers("LpNormalization", takes=is_wide)
def lower_norm(state: Lowering, node: ir.Node) -> None:
    """x / ‖x‖ along an axis, p = 1 or 2; a vector of zeros stays zero."""
    source = _float32_tensor(state, node)
    axis = integer(node, "axis", -1) % len(source.shape)
    operator = "ReduceL1" if integer(node, "p", 2) == 1 else "ReduceL2"
    norm = Leaf(state.tensor(reduced(state, source, (axis,), operator)))
    zero = state.elementwise("Equal", [norm, Fill(0.0, "float32")], "bool")
    safe = state.elementwise("Where", [zero, Fill(1.0, "float32"), norm], "float32")
    state.define(node.outputs[0], state.elementwise("Div", [source, safe], "float32"))


@lowers("Hardmax")
def lower_hardmax(state: Lowering, node: ir.Node) -> None:
    """1 at the first largest element along an axis (opset 13 and later), 0 elsewhere."""
    source = _float32_tensor(state, node)
    axis = integer(node, "axis", -1) % len(source.shape)
    n = source.shape[axis]
    place = positions_along(state, n, len(source.shape) - axis - 1)
    none: Lazy = Fill(n, "int64") if is_fixed(n) else SizeValue(n)
    largest = Leaf(state.tensor(reduced(state, source, (axis,), "ReduceMax")))
    here = state.elementwise("Equal", [source, largest], "bool")
    found = state.elementwise("Where", [here, place, none], "int64")
    first = Leaf(state.tensor(reduced(state, found, (axis,), "ReduceMin")))
    same = state.elementwise("Equal", [place, first], "bool")
    result = state.elementwise("Cast", [same], "float32")
    state.define(node.outputs[0], result)
