"""DynamicQuantizeLinear: extremes, two numbers made of them, and a pass that quantises."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.dynamic_range import PARTS, DynamicParameters, Extremes
from ...cpu.lazy import Leaf
from ..attributes import describe
from ..registry import lowers
from ..state import Lowering
from .movement import source_of


@lowers("DynamicQuantizeLinear")
def lower_dynamic_quantize(state: Lowering, node: ir.Node) -> None:
    """uint8 values, their scale (float32) and zero point (uint8), both scalars known only at run time."""
    source = state.tensor(source_of(state, node), node.name or "dynamic_in")
    if source.dtype != "float32":
        raise UnsupportedError("only float32", where=describe(node), got=source.dtype)
    if not prod(source.shape):
        raise UnsupportedError("empty at this input size", where=describe(node), got=list(source.shape))
    extremes = state.new_tensor("extremes", "float32", (2, PARTS))
    scale = state.new_tensor(node.outputs[1].name or "scale", "float32", ())
    zero_point = state.new_tensor(node.outputs[2].name or "zero_point", "uint8", ())
    state.steps += [Extremes(source, extremes), DynamicParameters(extremes, scale, zero_point)]
    args = [Leaf(source), Leaf(scale), Leaf(zero_point)]
    values = state.elementwise("Quantize", args, "uint8", low=0, high=255)
    for value, lazy in zip(node.outputs, (values, *args[1:]), strict=True):
        state.define(value, lazy)
