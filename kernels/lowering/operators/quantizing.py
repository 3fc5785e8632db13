"""QuantizeLinear and DequantizeLinear that no integer kernel took: elementwise, they melt into others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.builder import int32
from ...cpu.float8 import FLOAT8
from ...cpu.lazy import Fill, Lazy, Leaf
from ...quantization import dequantize_linear, integer_range, spread
from ..attributes import describe, flag, integer
from ..encoded.linear import stored_linearly
from ..registry import lowers
from ..state import Lowering, dtype_name
from .movement import reshaped, source_of

_HELD = {"int4": "int8", "uint4": "uint8"}


@lowers("DequantizeLinear")
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


@lowers("QuantizeLinear")
def lower_quantize(state: Lowering, node: ir.Node) -> None:
    """saturate(round half to even(x / scale) + zero point) in an integer type; 4 bits are held in 8."""
    kind = node.outputs[0].dtype.name.lower() if node.outputs[0].dtype is not None else ""
    if kind in FLOAT8:
        _quantize_float8(state, node, kind)
        return
    source = source_of(state, node)
    dtype = _HELD.get(kind) or dtype_name(node.outputs[0], describe(node))
    if not dtype.startswith(("int", "uint")):
        raise UnsupportedError("no kernel writes this type", where=describe(node), got=dtype)
    low, high = integer_range(kind)
    args = [source, *_parameters(state, node, source.shape)]
    state.define(node.outputs[0], state.elementwise("Quantize", args, dtype, low=low, high=high))


def _quantize_float8(state: Lowering, node: ir.Node, kind: str) -> None:
    """x / scale, rounded to what a small float can be, and kept in float32; its zero point is 0."""
    if not flag(node, "saturate", True):
        raise UnsupportedError("no kernel for float8 that does not saturate", where=describe(node))
    source = source_of(state, node)
    scale = _parameters(state, node, source.shape)[0]
    quotient = state.elementwise("Div", [source, scale], "float32")
    state.define(node.outputs[0], state.elementwise("RoundFloat8", [quotient], "float32", kind=kind))


def _parameters(state: Lowering, node: ir.Node, shape: tuple[int, ...]) -> list[Lazy]:
    """Scale and zero point, if the node has one, ready to broadcast against `shape`."""
    axis, block = integer(node, "axis", 1), integer(node, "block_size", 0)
    given = [v for v in node.inputs[1:3] if v is not None and not _is_float8(v)]
    return [_spread(state, node, v, shape, axis, block) for v in given]


def _is_float8(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.name.lower() in FLOAT8


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
