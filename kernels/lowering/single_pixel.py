"""A 1×1 convolution of one pixel, as in squeeze-and-excite blocks, as matrix × vector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ..cpu.lazy import leaves
from ..cpu.matrix_vector import MatrixVector, panel_vectors
from ..cpu.tensor import Tensor
from ..cpu.window import Window
from .choice import Choice, choose_rows
from .encoded.base import product_kernel
from .fusion import Epilogue
from .packing import pack_columns
from .report import report_layer
from .state import Encoded, Lowering

__all__ = ["single_pixel"]


def single_pixel(
    state: Lowering, node: ir.Node, source: Tensor, weights: np.ndarray, window: Window, epilogue: Epilogue
) -> Tensor | None:
    """The layer's result, or None where it is not of this kind, or sparse: weights (M, C, 1, 1)."""
    bias = _bias(state, node, len(weights))
    one = window.is_pointwise and window.pixels == 1 and source.shape[1] == weights.shape[1]
    if not one or bias is None or any(t.size != 1 for t in leaves(epilogue.tree)):
        return None
    matrix = weights.reshape(len(weights), -1)
    if choose_rows(state.isa, matrix).rows:
        return None
    lanes = state.isa.lanes
    padded = -(-len(matrix) // lanes) * lanes
    shape = (source.shape[0], len(matrix), 1, 1)
    whole_bias = state.pool.add(f"{node.name}.bias", np.pad(bias, (0, padded - len(bias))))
    stored = _stored(state, node, source, weights, whole_bias, epilogue)
    if stored is not None:
        return stored
    out = state.new_tensor(epilogue.value.name or "conv", "float32", shape, (padded, 1, 1, 1))
    panels = pack_columns(matrix.T, lanes, panel_vectors(state.isa))
    state.steps.append(
        MatrixVector(
            source,
            state.pool.add(f"{node.name}.weight", panels, "panels of columns"),
            whole_bias,
            out,
            epilogue.tree,
        )
    )
    report_layer(state, node, weights, out, Choice("matrix-vector", 0, "", "one pixel"), epilogue)
    return out


def _encoded(state: Lowering, node: ir.Node) -> Encoded | None:
    """How the weight is stored, as that of a product (C, M); None where it is plain."""
    encoded = state.encoded.get(node.inputs[1]) if node.inputs[1] is not None else None
    return replace(encoded, transposed=True) if encoded is not None else None


def _stored(
    state: Lowering, node: ir.Node, source: Tensor, weights: np.ndarray, bias: Tensor, epilogue: Epilogue
) -> Tensor | None:
    """By the product of a few rows that reads the weight as it is stored; None where there is none."""
    (batch, channels, *_), encoded = source.shape, _encoded(state, node)
    lower_product = product_kernel(state.isa, encoded, batch)
    if lower_product is None:
        return None
    rows = source.view((batch, channels), source.strides[:2])
    turned = np.ascontiguousarray(weights.reshape(len(weights), channels).T)
    plain = Choice("matrix-vector", 0, "", "one pixel")
    shape = (batch, len(weights))
    flat, choice = lower_product(state, node, rows, turned, bias, shape, plain, epilogue)
    out = flat.view((*shape, 1, 1), (flat.strides[0], flat.strides[1], 1, 1))
    report_layer(state, node, weights, out, choice, epilogue)
    return out


def _bias(state: Lowering, node: ir.Node, rows: int) -> np.ndarray | None:
    """The bias, zeros where there is none; None when it is not a constant of `rows` float32."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(rows, np.float32)
    array = state.constant(value)
    return array if array is not None and array.shape == (rows,) and array.dtype == np.float32 else None
