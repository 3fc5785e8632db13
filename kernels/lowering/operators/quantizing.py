"""QuantizeLinear and DequantizeLinear that no integer kernel took: elementwise, they melt into others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.builder import int32
from ...cpu.element_types import computed_type
from ...cpu.lazy import Fill, Lazy, Leaf
from ...cpu.small_floats import SMALL_FLOATS
from ...quantization import dequantize_linear, integer_range, spread
from ..attributes import describe, flag, integer
from ..encoded.linear import stored_linearly
from ..registry import lowers
from ..state import Lowering, dtype_name
from .movement import reshaped, source_of


@lowers("DequantizeLinear", any_type=True)
def lower_dequantize(state: Lowering, node: ir.Node) -> None:
    """(x - zero point) * scale in float32; constants are computed here."""
    x, scale, zero = (*node.inputs, None)[:3]
    axis, block = integer(node, "axis", 1), integer(node, "block_size", 0)
    arrays = [state.constant(v) for v in (x, scale, zero)]
    if arrays[0] is not None and arrays[1] is not None and (zero is None or arrays[2] is not None):
        out = node.outputs[0]
        state.arrays[out] = dequantize_linear(arrays[0], arrays[1], arrays[2], axis=axis, block_size=block)
        found = stored_linearly(arrays[0], arrays[1], arrays[2], axis, block, _outputs_last(out))
        if found is not None:
            state.encoded[out] = found
        return
    source = source_of(state, node)
    args = [source, *_parameters(state, node, source.shape)]
    state.define(node.outputs[0], state.elementwise("Dequantize", args, "float32"))


def _outputs_last(value: ir.Value) -> bool:
    """Whether a matrix is used as the right side of a product."""
    uses = [(node, index) for node, index in value.uses() if index == 1]
    return any(n.op_type == "MatMul" or (n.op_type == "Gemm" and not flag(n, "transB")) for n, _ in uses)


@lowers("QuantizeLinear", any_type=True)
def lower_quantize(state: Lowering, node: ir.Node) -> None:
    """saturate(round half to even(x / scale) + zero point) in an integer type, or a small float."""
    kind = dtype_name(node.outputs[0], describe(node))
    if kind in SMALL_FLOATS:
        _quantize_float(state, node, kind)
        return
    dtype = computed_type(kind)
    if not dtype.startswith(("int", "uint")):
        raise UnsupportedError("no kernel writes this type", where=describe(node), got=dtype)
    source = source_of(state, node)
    low, high = integer_range(kind)
    args = [source, *_parameters(state, node, source.shape)]
    state.define(node.outputs[0], state.elementwise("Quantize", args, dtype, low=low, high=high))


def _quantize_float(state: Lowering, node: ir.Node, kind: str) -> None:
    """x / scale, rounded to what a small float can be; its zero point is 0."""
    source = source_of(state, node)
    scale = _parameters(state, node, source.shape)[0]
    quotient = state.elementwise("Div", [source, scale], "float32")
    saturate = flag(node, "saturate", True)
    state.define(node.outputs[0], state.elementwise("Cast", [quotient], kind, saturate=saturate))


def _parameters(state: Lowering, node: ir.Node, shape: tuple[int, ...]) -> list[Lazy]:
    """Scale and zero point, if the node has one, ready to broadcast against `shape`."""
    axis, block = integer(node, "axis", 1), integer(node, "block_size", 0)
    given = [v for v in node.inputs[1:3] if v is not None and not _is_small_float(v)]
    return [_spread(state, node, v, shape, axis, block) for v in given]


def _is_small_float(value: ir.Value) -> bool:
    """Whether it is a zero point that is 0 by definition; a scale is a power of two, or 16 bits wide."""
    name = value.dtype.name if value.dtype is not None else ""
    return name.startswith(("FLOAT8E4", "FLOAT8E5", "FLOAT4"))


def _spread(
    state: Lowering, node: ir.Node, value: ir.Value, shape: tuple[int, ...], axis: int, block: int
) -> Lazy:
    array = state.constant(value)
    if array is not None:
        full = np.ascontiguousarray(spread(array, shape, axis, block))
        if full.size == 1:
            return Fill(full.reshape(-1)[0].item(), str(full.dtype), full.shape)
        return Leaf(state.pool.add(value.name or "scale", full))
    lazy = state.lazy(value)
    if block:
        return _of_blocks(state, lazy, shape, axis % len(shape), block)
    if not lazy.shape or lazy.shape == (1,):
        return reshaped(state, lazy, ())
    return reshaped(state, lazy, tuple(n if i == axis % len(shape) else 1 for i, n in enumerate(shape)))


def _of_blocks(state: Lowering, lazy: Lazy, shape: tuple[int, ...], axis: int, block: int) -> Lazy:
    """A scale for each block along `axis`, as one for each element."""

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        place = [tir.floordiv(i, int32(block)) if a == axis else i for a, i in enumerate(index)]
        return sources[0].at(scope, place)

    return state.moved([lazy], shape, pick, "blocks", axis, block)
