"""Products of int8 or uint8 activations and int8 weights, in integers: MatMul and Gemm."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from ..cpu.integer_product import Reach
from ..cpu.lazy import Leaf
from ..dims import Size, is_fixed
from .attributes import describe, flag, number, require_equal
from .fusion import grow_epilogue
from .integer_layer import IntegerLayer, append_product, integer_layer
from .integer_rows import fits_rows, row_pitch, rows_apart, stored_rows
from .report import report_layer
from .state import Lowering, filled_shape

__all__ = ["integer_gemm", "integer_matmul"]


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
    weight = node.inputs[1]
    assert weight is not None
    assert weight.shape is not None
    outputs = weight.shape[0 if flag(node, "transB") else 1]
    one_row = array is not None and (array.ndim < 2 or array.shape[0] == 1)
    return array is not None and one_row and array.size in (1, outputs) and beta == 1.0


def _shape(node: ir.Node, shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """What is declared, where that is a number; `shape` where it is known at run time."""
    return filled_shape(node.outputs[0], describe(node)) if is_fixed(*shape) else shape


def _lower(state: Lowering, layer: IntegerLayer) -> None:
    node, weights = layer.node, layer.weights
    x = state.lazy(layer.x.integers)
    shape = _shape(node, (*x.shape[:-1], len(weights)))
    require_equal(node, "inner sizes", weights.shape[1], x.shape[-1] if x.shape else 0)
    require_equal(node, "output sizes", (*x.shape[:-1], len(weights)), shape)
    source = stored_rows(state, x, node.name or "rows")
    pitch = row_pitch(shape[-1])
    strides = rows_apart(shape, pitch)
    epilogue = grow_epilogue(state, node.outputs[0], shape, lambda t: fits_rows(t, shape, strides), strides)
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
