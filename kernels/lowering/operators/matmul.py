"""MatMul and Gemm: activations times packed weights, block-sparse weights, or activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from ...cpu.epilogue import Accumulator
from ...cpu.isa import Isa
from ...cpu.lazy import Fill, Lazy, Leaf, weight_of
from ...cpu.matmul import Matmul
from ...cpu.register_tile import best_tile, good_tiles
from ...cpu.sparse_matmul import SparseMatmul
from ...cpu.tensor import Tensor
from ..any_size.attention import begins_attention, ends_attention
from ..any_size.base import is_any_size
from ..any_size.matmul import any_gemm, any_matmul
from ..attributes import describe, flag, number, require_equal
from ..choice import Choice, choose_rows
from ..encoded.base import product_kernel
from ..feature_major import matrix_view, row_tree
from ..fusion import Epilogue, grow_epilogue
from ..integer_matmul import integer_gemm, integer_matmul
from ..integer_pair import integer_pair
from ..packing import sparse_rows
from ..plane_products import in_planes
from ..product_parts import add, bias_row, finish, fits_rows, grow_rows, require_float32, right_value
from ..registry import lowers
from ..report import report_layer
from ..row_products import in_rows, product_signature
from ..state import Encoded, Lowering, filled_shape
from ..stored_product import stored_product, stored_sparse_product
from ..variants import is_float32
from ..ways import TRIED, Way, choose_way
from .attention import lower_attention
from .movement import reshaped, source_of, transposed

_MOST_VECTORS = 8  # of a tile whose right side is a weight


@lowers("MatMul", takes=is_float32)
def lower_matmul(state: Lowering, node: ir.Node) -> None:
    """numpy's matmul, vectors included; of dequantised operands, in integers."""
    if ends_attention(state, node, any_matmul):
        return
    if is_any_size(state, node):
        if not integer_matmul(state, node) and not begins_attention(state, node):
            any_matmul(state, node)
        return
    if lower_attention(state, node) or integer_matmul(state, node) or integer_pair(state, node):
        return
    shape = filled_shape(node.outputs[0], describe(node))
    left = source_of(state, node, 0)
    require_float32(node, left)
    weights = state.constant(node.inputs[1])
    if weights is not None and weights.ndim == 2 and len(left.shape) >= 2:
        _by_weight(state, node, left, weights, None, None, shape, state.encoded.get(right_value(node)))
        return
    right = source_of(state, node, 1)
    if len(left.shape) == 1:
        left = reshaped(state, left, (1, *left.shape))
    if len(right.shape) == 1:
        right = reshaped(state, right, (*right.shape, 1))
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    full = (*batch, left.shape[-2], right.shape[-1])
    plain = Epilogue(Accumulator(full), node.outputs[0])
    epilogue = grow_rows(state, node, shape) if full == shape else plain
    product = _by_activation(state, node, left, right, full, epilogue)
    finish(state, epilogue, reshaped(state, product, shape))


@lowers("Gemm", takes=is_float32)
def lower_gemm(state: Lowering, node: ir.Node) -> None:
    """alpha · A' · B' + beta · C; of dequantised operands, in integers."""
    if integer_gemm(state, node):
        return
    if is_any_size(state, node):
        any_gemm(state, node)
        return
    shape = filled_shape(node.outputs[0], describe(node))
    left = source_of(state, node, 0)
    require_float32(node, left)
    if flag(node, "transA"):
        left = transposed(state, left, (1, 0))
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    weights = state.constant(node.inputs[1])
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    if weights is not None:
        matrix = (weights.T if flag(node, "transB") else weights) * np.float32(alpha)
        bias, rest = bias_row(state, node, addend, beta, shape[-1])
        after = None if rest is None else lambda product: add(state, product, rest, beta)
        encoded = state.encoded.get(right_value(node))
        if encoded is not None:  # as the product takes it: (K, N)
            turned = encoded.transposed != bool(flag(node, "transB"))
            encoded = replace(encoded, transposed=turned) if alpha == 1.0 else None
        _by_weight(state, node, left, matrix.astype(np.float32), bias, after, shape, encoded)
        return
    right = source_of(state, node, 1)
    right = transposed(state, right, (1, 0)) if flag(node, "transB") else right
    product = _by_activation(state, node, left, right, shape, Epilogue(Accumulator(shape), node.outputs[0]))
    if alpha != 1.0:
        product = state.elementwise("Mul", [product, Fill(alpha, "float32")], "float32")
    state.define(
        node.outputs[0], product if addend is None else add(state, product, state.lazy(addend), beta)
    )


def _by_weight(
    state: Lowering,
    node: ir.Node,
    left: Lazy,
    weights: np.ndarray,
    bias: Tensor | None,
    after: Callable[[Lazy], Lazy] | None,
    shape: tuple[int, ...],
    encoded: Encoded | None,
) -> None:
    """(…, M, K) · (K, N) and the elementwise nodes behind it; `after` is applied where these must wait."""
    source = state.tensor(left, node.name or "matmul_in")
    depth, columns = weights.shape
    require_equal(node, "inner sizes", depth, source.shape[-1])
    require_equal(node, "output sizes", (*source.shape[:-1], columns), shape)
    choice = choose_rows(state.isa, np.ascontiguousarray(weights.T))
    rows = prod(shape[:-1])
    few = product_kernel(state.isa, encoded, rows)
    lower_product = few or _product_kind(state, node, weights, rows, choice, encoded)
    dense = not choice.rows and _row_major(state.isa, rows, choice)
    fits = fits_rows if few or dense else _fits_any_layout
    plain = Epilogue(Accumulator(shape), node.outputs[0])
    epilogue = (
        plain
        if after
        else grow_epilogue(state, node.outputs[0], shape, lambda t: fits(t, shape, state.isa.lanes))
    )
    out, choice = lower_product(state, node, source, weights, bias, shape, choice, epilogue)
    report_layer(state, node, weights, out, choice, epilogue)
    finish(state, epilogue, after(Leaf(out)) if after else Leaf(out))


def _product_kind(
    state: Lowering, node: ir.Node, weights: np.ndarray, rows: int, choice: Choice, encoded: Encoded | None
) -> Callable[..., tuple[Tensor, Choice]]:
    """Which kernel computes a product of this many rows."""
    row_major = _row_major(state.isa, rows, choice)
    if choice.rows:
        kept = stored_sparse_product(state, node, encoded, weights, rows)
        return kept or (_few_rows if row_major else in_planes)
    stored = stored_product(state, node, encoded, weights, rows, planes=not row_major)
    return stored or (in_rows if row_major else in_planes)


def _row_major(isa: Isa, rows: int, choice: Choice) -> bool:
    """Whether a kernel reads activations row by row, or else feature by feature."""
    if choice.rows:
        return rows < 4 or rows * 2 < isa.lanes
    # ARM multiplies by a lane: four packed weights are one load, four activations of other rows are four
    return isa.target.broadcast != "lane" or rows < 4 * isa.lanes


def _fits_any_layout(tensor: Tensor, shape: tuple[int, ...], lanes: int) -> bool:
    """Operands that a copy may turn: one value, one row, or a whole tensor of any layout."""
    row = bool(tensor.shape) and tensor.size == tensor.shape[-1] == shape[-1]
    return tensor.size == 1 or row or tensor.shape == shape


def _few_rows(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    weights: np.ndarray,
    bias: Tensor | None,
    shape: tuple[int, ...],
    choice: Choice,
    epilogue: Epilogue,
) -> tuple[Tensor, Choice]:
    """Sparse weights, a few rows of activations."""
    packing, name = f"block-sparse {choice.rows}x1", f"{node.name}.weight"
    sparse = sparse_rows(np.ascontiguousarray(weights.T), choice.rows)
    parts = (
        state.pool.add(name, sparse.values, packing),
        state.pool.add(f"{name}.columns", sparse.columns, packing),
        state.pool.add(f"{name}.starts", sparse.starts, packing),
    )
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    tree = row_tree(state, epilogue.tree, shape)
    left = matrix_view(state.dense(Leaf(source)))
    state.steps.append(SparseMatmul(left, parts, bias, matrix_view(out), choice.rows, tree))
    return out, choice.with_tile((choice.rows, 1))


def _by_activation(
    state: Lowering, node: ir.Node, left: Lazy, right: Lazy, shape: tuple[int, ...], epilogue: Epilogue
) -> Lazy:
    source = state.tensor(left, node.name or "matmul_in")
    require_equal(node, "inner sizes", source.shape[-1], right.shape[-2])
    require_equal(node, "output sizes", (source.shape[-2], right.shape[-1]), shape[-2:])
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    right, rows, vectors = _cheap(state, right), shape[-2], -(-shape[-1] // state.isa.lanes)

    def way(tile: tuple[int, int]) -> Way:
        kernel = Matmul(source, right, None, None, out, tile, epilogue.tree)
        return Way(Choice("matmul", 0, "", "").with_tile(tile), lambda state: state.steps.append(kernel))

    best = choose_way(
        state,
        f"{rows}x{source.shape[-1]} times {right.shape[-2]}x{right.shape[-1]}, both activations",
        product_signature(source, out, epilogue, right.key),
        way(best_tile(state.isa, rows, vectors)),
        lambda: [way(t) for t in good_tiles(state.isa, rows, vectors, TRIED)],
    )
    best.lower(state)
    return Leaf(out)


def _cheap(state: Lowering, value: Lazy) -> Lazy:
    """What is read once for each tile is stored first, unless it only moves elements."""
    return value if weight_of(value) == 0 else Leaf(state.tensor(value))
