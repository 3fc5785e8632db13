"""Products of int8 or uint8 activations and int8 weights, in integers: MatMul and Gemm."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from ..cpu.elementwise import Elementwise
from ..cpu.integer_product import Reach
from ..cpu.lazy import Lazy, Leaf
from ..cpu.tensor import Tensor, contiguous
from .attributes import describe, flag, number, require_equal
from .fusion import grow_epilogue
from .integer_layer import IntegerLayer, append_product, integer_layer
from .report import report_layer
from .state import Lowering, filled_shape

__all__ = ["integer_gemm", "integer_matmul"]

_GROUP = 4  # rows start so many bytes apart, or a multiple of it


def integer_matmul(state: Lowering, node: ir.Node) -> bool:
    """Lowers a MatMul of dequantised operands; False where it is none, or none computed in integers."""
    weight = node.inputs[1]
    if weight is None or weight.shape is None or len(weight.shape) != 2:
        return False
    layer = integer_layer(state, node, 1, None)
    if layer is None:
        return False
    _lower(state, layer)
    return True


def integer_gemm(state: Lowering, node: ir.Node) -> bool:
    """Lowers a Gemm of dequantised operands; False where it is none, or none computed in integers."""
    beta = number(node, "beta", 1.0)
    addend = node.inputs[2] if len(node.inputs) > 2 and beta else None
    if flag(node, "transA") or (addend is not None and not _is_row(state, node, addend, beta)):
        return False
    axis = 0 if flag(node, "transB") else 1
    layer = integer_layer(state, node, axis, addend, number(node, "alpha", 1.0))
    if layer is None:
        return False
    _lower(state, layer)
    return True


def _is_row(state: Lowering, node: ir.Node, addend: ir.Value, beta: float) -> bool:
    array = state.constant(addend)
    outputs = filled_shape(node.outputs[0], describe(node))[-1]
    one_row = array is not None and (array.ndim < 2 or array.shape[0] == 1)
    return array is not None and one_row and array.size in (1, outputs) and beta == 1.0


def _lower(state: Lowering, layer: IntegerLayer) -> None:
    node, weights = layer.node, layer.weights
    shape = filled_shape(node.outputs[0], describe(node))
    x = state.lazy(layer.x.integers)
    require_equal(node, "inner sizes", weights.shape[1], x.shape[-1] if x.shape else 0)
    require_equal(node, "output sizes", (*x.shape[:-1], len(weights)), shape)
    source = _rows(state, x, node.name or "rows")
    pitch = _pitch(shape[-1])
    strides = _apart(shape, pitch)
    epilogue = grow_epilogue(state, node.outputs[0], shape, lambda t: _fits(t, shape, strides), strides)
    dtype = epilogue.tree.dtype
    out = state.new_tensor(epilogue.value.name or "matmul", dtype, shape, strides)
    apart = source.strides[-2] if len(source.shape) > 1 else 0
    reach = Reach((1, prod(shape[:-1]), 1), (0, apart, 0), (), weights.shape[1])
    matrix = weights[None, :, None, :]
    choice = append_product(state, layer, source, reach, matrix, out, (0, pitch, 0), shape[-1], epilogue)
    layer.take(state, epilogue)
    state.absorbed.update(epilogue.nodes)
    report_layer(state, node, np.ascontiguousarray(weights.T), out, choice, epilogue)
    state.define(epilogue.value, Leaf(out))


def _pitch(size: int) -> int:
    return -(-size // _GROUP) * _GROUP


def _rows(state: Lowering, value: Lazy, name: str) -> Tensor:
    """`value` (…, M, K) in memory, rows the same distance apart, of which whole groups may be read."""
    if isinstance(value, Leaf) and _evenly_apart(value.tensor):
        return value.tensor
    depth = value.shape[-1]
    out = state.new_tensor(name, value.dtype, value.shape, _apart(value.shape, _pitch(depth)))
    state.steps.append(Elementwise(value, out))
    return out


def _evenly_apart(tensor: Tensor) -> bool:
    depth, pitch = tensor.shape[-1], tensor.strides[-2] if len(tensor.shape) > 1 else _pitch(tensor.shape[-1])
    expected = _apart(tensor.shape, pitch)
    even = all(n == 1 or s == e for n, s, e in zip(tensor.shape, tensor.strides, expected, strict=True))
    readable = depth % _GROUP == 0 or (tensor.place == "arena" and pitch >= _pitch(depth))
    return even and readable


def _apart(shape: tuple[int, ...], pitch: int) -> tuple[int, ...]:
    """Strides of rows that start `pitch` apart."""
    return (*(pitch * s // shape[-1] for s in contiguous(shape)[:-1]), 1)


def _fits(tensor: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Float operands that a vector of columns can read: one value, a row, or what lies as the result does."""
    if tensor.size == 1:
        return True
    if tensor.place == "input" or tensor.strides[-1] != 1:
        return False
    row = tensor.size == tensor.shape[-1] == shape[-1]
    return row or (tensor.shape == shape and tensor.strides == strides)
