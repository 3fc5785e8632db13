"""MatMul and Gemm where a size is known only at run time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from ...cpu.any_rows import AnyRows
from ...cpu.epilogue import Accumulator
from ...cpu.lazy import Fill, Lazy, Leaf
from ...cpu.register_tile import best_tile
from ...cpu.tensor import Tensor
from ...dims import Size
from ..attributes import describe, flag, number
from ..choice import Choice
from ..feature_major import matrix_view
from ..fusion import Epilogue, grow_epilogue
from ..operators.movement import reshaped, transposed
from ..packing import pack_columns
from ..product_parts import add, bias_row, finish, fits_rows, require_float32
from ..report import report_layer
from ..state import Encoded, Lowering
from .compressed import compressed_rows
from .product import any_product

__all__ = ["any_gemm", "any_matmul"]

_MANY_ROWS = 1 << 12  # for which the tile is chosen: few rows leave most of any tile unused
_MOST_VECTORS = 4  # of a tile: more would leave a single row with one sum only


def any_matmul(state: Lowering, node: ir.Node) -> None:
    """numpy's matmul, vectors included, and the elementwise nodes behind it."""
    left = state.lazy(_input(node, 0))
    require_float32(node, left)
    weights = state.constant(node.inputs[1])
    if weights is not None and weights.ndim == 2 and len(left.shape) >= 2:
        _rows(state, node, left, weights, None, None, state.encoded.get(_input(node, 1)))
        return
    right = state.lazy(_input(node, 1))
    vector_left, vector_right = len(left.shape) == 1, len(right.shape) == 1
    left = reshaped(state, left, (1, *left.shape)) if vector_left else left
    right = reshaped(state, right, (*right.shape, 1)) if vector_right else right
    if not vector_left and not vector_right:
        any_product(state, node, left, right, fuse=True)
        return
    product = any_product(state, node, left, right, fuse=False)
    rows = () if vector_left else product.shape[-2:-1]
    columns = () if vector_right else product.shape[-1:]
    state.define(node.outputs[0], reshaped(state, product, (*product.shape[:-2], *rows, *columns)))


def any_gemm(state: Lowering, node: ir.Node) -> None:
    """alpha · A' · B' + beta · C."""
    left = state.lazy(_input(node, 0))
    require_float32(node, left)
    if flag(node, "transA"):
        left = transposed(state, left, (1, 0))
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    weights = state.constant(node.inputs[1])
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    if weights is not None:
        matrix = (weights.T if flag(node, "transB") else weights) * np.float32(alpha)
        bias, rest = bias_row(state, node, addend, beta, matrix.shape[1])
        after = None if rest is None else lambda product: add(state, product, rest, beta)
        encoded = state.encoded.get(_input(node, 1)) if alpha == 1.0 else None
        if encoded is not None:  # as the product takes it: (K, N)
            encoded = replace(encoded, transposed=encoded.transposed != flag(node, "transB"))
        _rows(state, node, left, matrix.astype(np.float32), bias, after, encoded)
        return
    right = state.lazy(_input(node, 1))
    right = transposed(state, right, (1, 0)) if flag(node, "transB") else right
    product = any_product(state, node, left, right, fuse=False)
    if alpha != 1.0:
        product = state.elementwise("Mul", [product, Fill(alpha, "float32")], "float32")
    product = product if addend is None else add(state, product, state.lazy(addend), beta)
    state.define(node.outputs[0], product)


def _input(node: ir.Node, position: int) -> ir.Value:
    value = node.inputs[position]
    assert value is not None
    return value


def _rows(
    state: Lowering,
    node: ir.Node,
    left: Lazy,
    weights: np.ndarray,
    bias: Tensor | None,
    after: Callable[[Lazy], Lazy] | None,
    encoded: Encoded | None,
) -> None:
    """(…, M, K) · (K, N) and the elementwise nodes behind it; `after` is applied where these must wait."""
    source = state.dense(left, node.name or "matmul_in")
    depth, columns = weights.shape
    state.sizes.equal(source.shape[-1], depth, f"inner sizes of {describe(node)}")
    shape: tuple[Size, ...] = (*source.shape[:-1], columns)
    lanes = state.isa.lanes
    epilogue = Epilogue(Accumulator(shape), node.outputs[0])
    if after is None:
        epilogue = grow_epilogue(
            state, node.outputs[0], shape, lambda t: fits_rows(t, shape, lanes) and _folds(t, shape)
        )
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    operand, target = matrix_view(source), matrix_view(out)
    lower = compressed_rows(state, node, weights, encoded) or _dense
    choice = lower(state, node, operand, weights, bias, target, epilogue)
    report_layer(state, node, weights, out, choice, epilogue)
    finish(state, epilogue, after(Leaf(out)) if after else Leaf(out))


def _dense(
    state: Lowering,
    node: ir.Node,
    left: Tensor,
    weights: np.ndarray,
    bias: Tensor | None,
    out: Tensor,
    epilogue: Epilogue,
) -> Choice:
    lanes = state.isa.lanes
    tile = best_tile(state.isa, _MANY_ROWS, -(-weights.shape[1] // lanes), _MOST_VECTORS, _lane_rows(state))
    packed = pack_columns(weights, lanes, tile[1])
    panels = state.pool.add(f"{node.name}.weight", packed, f"panels of {tile[1]} vectors")
    state.steps.append(AnyRows(left, None, panels, bias, out, tile, epilogue.tree))
    return Choice("gemm", 0, "", "rows are known at run time").with_tile(tile)


def _lane_rows(state: Lowering) -> bool:
    return state.isa.target.broadcast == "lane"


def _folds(tensor: Tensor, shape: tuple[Size, ...]) -> bool:
    """Operands that stay readable when batch axes become rows: one value, one row, or a whole tensor."""
    row = tensor.size == tensor.shape[-1] == shape[-1] if tensor.shape else True
    return tensor.size == 1 or row or (tensor.shape == shape and tensor.is_contiguous)
