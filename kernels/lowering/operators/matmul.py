"""MatMul and Gemm: activations times packed weights, block-sparse weights, or activations."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.epilogue import Accumulator
from ...cpu.lazy import Fill, Lazy, Leaf, leaves, weight_of
from ...cpu.matmul import Matmul
from ...cpu.register_tile import best_tile
from ...cpu.sparse_matmul import SparseMatmul
from ...cpu.tensor import Tensor, contiguous
from ..attributes import describe, flag, number, require_equal
from ..choice import Choice, choose_rows
from ..fusion import Epilogue, grow_epilogue
from ..packing import pack_columns, sparse_rows
from ..registry import lowers
from ..report import report_layer
from ..state import Lowering, filled_shape
from .movement import reshaped, source_of, transposed


@lowers("MatMul")
def lower_matmul(state: Lowering, node: ir.Node) -> None:
    """numpy's matmul, vectors included."""
    shape = filled_shape(node.outputs[0], describe(node))
    left = source_of(state, node, 0)
    _require_float32(node, left)
    weights = state.constant(node.inputs[1])
    if weights is not None and weights.ndim == 2 and len(left.shape) >= 2:
        epilogue = _grow(state, node, shape)
        product = _by_weight(state, node, left, weights, None, shape, epilogue)
        _finish(state, node, epilogue, product)
        return
    right = source_of(state, node, 1)
    if len(left.shape) == 1:
        left = reshaped(state, left, (1, *left.shape))
    if len(right.shape) == 1:
        right = reshaped(state, right, (*right.shape, 1))
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    full = (*batch, left.shape[-2], right.shape[-1])
    epilogue = _grow(state, node, shape) if full == shape else Epilogue(Accumulator(full), node.outputs[0])
    product = _by_activation(state, node, left, right, full, epilogue)
    _finish(state, node, epilogue, reshaped(state, product, shape))


@lowers("Gemm")
def lower_gemm(state: Lowering, node: ir.Node) -> None:
    """alpha · A' · B' + beta · C."""
    shape = filled_shape(node.outputs[0], describe(node))
    left = source_of(state, node, 0)
    _require_float32(node, left)
    if flag(node, "transA"):
        left = transposed(state, left, (1, 0))
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    weights = state.constant(node.inputs[1])
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    if weights is not None:
        matrix = (weights.T if flag(node, "transB") else weights) * np.float32(alpha)
        bias, rest = _bias(state, node, addend, beta, shape)
        epilogue = (
            _grow(state, node, shape) if rest is None else Epilogue(Accumulator(shape), node.outputs[0])
        )
        product = _by_weight(state, node, left, matrix.astype(np.float32), bias, shape, epilogue)
        _finish(state, node, epilogue, product if rest is None else _add(state, product, rest, beta))
        return
    right = source_of(state, node, 1)
    right = transposed(state, right, (1, 0)) if flag(node, "transB") else right
    product = _by_activation(state, node, left, right, shape, Epilogue(Accumulator(shape), node.outputs[0]))
    if alpha != 1.0:
        product = state.elementwise("Mul", [product, Fill(alpha, "float32")], "float32")
    state.define(
        node.outputs[0], product if addend is None else _add(state, product, state.lazy(addend), beta)
    )


def _require_float32(node: ir.Node, value: Lazy) -> None:
    if value.dtype != "float32":
        raise UnsupportedError("only float32", where=describe(node), got=value.dtype)


def _add(state: Lowering, value: Lazy, other: Lazy, factor: float) -> Lazy:
    if factor != 1.0:
        other = state.elementwise("Mul", [other, Fill(factor, "float32")], "float32")
    return state.elementwise("Add", [value, other], "float32")


def _bias(
    state: Lowering, node: ir.Node, addend: ir.Value | None, beta: float, shape: tuple[int, ...]
) -> tuple[Tensor | None, Lazy | None]:
    """(constant row added in the accumulators, anything else to be added afterwards)."""
    if addend is None or beta == 0.0:
        return None, None
    array = state.constant(addend)
    if array is None or (array.ndim == 2 and array.shape[0] not in (1,)) or array.size not in (1, shape[-1]):
        return None, state.lazy(addend)
    lanes = state.isa.lanes
    row = np.zeros(-(-shape[-1] // lanes) * lanes, np.float32)
    row[: shape[-1]] = array.reshape(-1) * np.float32(beta)
    return state.pool.add(f"{node.name}.bias", row), None


def _grow(state: Lowering, node: ir.Node, shape: tuple[int, ...]) -> Epilogue:
    return grow_epilogue(state, node.outputs[0], shape, lambda t: _fits(t, shape, state.isa.lanes))


def _fits(tensor: Tensor, shape: tuple[int, ...], lanes: int) -> bool:
    """Operands a tile can read: broadcast against the product, columns side by side."""
    rank = len(tensor.shape)
    if tensor.size == 1:
        return True
    if rank > len(shape) or any(
        n not in (1, m) for n, m in zip(tensor.shape[::-1], shape[::-1], strict=False)
    ):
        return False
    if tensor.shape[-1] == 1:
        return True
    return tensor.strides[-1] == 1 and (tensor.place != "input" or shape[-1] % lanes == 0)


def _finish(state: Lowering, node: ir.Node, epilogue: Epilogue, product: Lazy) -> None:
    state.absorbed.update(epilogue.nodes)
    state.define(epilogue.value, product)


def _by_weight(
    state: Lowering,
    node: ir.Node,
    left: Lazy,
    weights: np.ndarray,
    bias: Tensor | None,
    shape: tuple[int, ...],
    epilogue: Epilogue,
) -> Lazy:
    """(…, M, K) · (K, N) with the batch axes folded into M where the epilogue allows."""
    source = state.dense(left, node.name or "matmul_in")
    depth, columns = weights.shape
    require_equal(node, "inner sizes", depth, source.shape[-1])
    require_equal(node, "output sizes", (*source.shape[:-1], columns), shape)
    rows = prod(shape[:-1])
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    fold = len(shape) == 2 or all(_folds(t, shape) for t in leaves(epilogue.tree))
    operand, target = source, out
    if fold:
        operand = source.view((rows, depth), contiguous((rows, depth)))
        target = out.view((rows, columns), contiguous((rows, columns)))
    choice = (
        choose_rows(state.isa, np.ascontiguousarray(weights.T)) if fold else Choice("gemm", 0, "", "batched")
    )
    if choice.rows and not epilogue.nodes:
        _sparse(state, node, operand, weights, bias, target, choice)
    else:
        choice = choice if not choice.rows else Choice("gemm", 0, "", "epilogue")
        vectors = -(-columns // state.isa.lanes)
        tile = best_tile(state.isa, target.shape[-2], vectors, most_vectors=8)
        panels = state.pool.add(
            f"{node.name}.weight",
            pack_columns(weights, state.isa.lanes, tile[1]),
            f"panels of {tile[1]} vectors",
        )
        state.steps.append(Matmul(operand, None, panels, bias, target, tile, epilogue.tree))
        choice = choice.with_tile(tile)
    report_layer(state, node, weights, out, choice, epilogue)
    return Leaf(out)


def _folds(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Operands that stay readable when batch axes become rows: one value, one row, or a whole tensor."""
    row = tensor.size == tensor.shape[-1] == shape[-1] if tensor.shape else True
    return tensor.size == 1 or row or (tensor.shape == shape and tensor.is_contiguous)


def _sparse(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    weights: np.ndarray,
    bias: Tensor | None,
    out: Tensor,
    choice: Choice,
) -> None:
    sparse = sparse_rows(np.ascontiguousarray(weights.T), choice.rows)
    packing, name = f"block-sparse {choice.rows}x1", f"{node.name}.weight"
    parts = (
        state.pool.add(name, sparse.values, packing),
        state.pool.add(f"{name}.columns", sparse.columns, packing),
        state.pool.add(f"{name}.starts", sparse.starts, packing),
    )
    state.steps.append(SparseMatmul(source, parts, bias, out, choice.rows, choice.vectors))


def _by_activation(
    state: Lowering, node: ir.Node, left: Lazy, right: Lazy, shape: tuple[int, ...], epilogue: Epilogue
) -> Lazy:
    source = state.tensor(left, node.name or "matmul_in")
    require_equal(node, "inner sizes", source.shape[-1], right.shape[-2])
    require_equal(node, "output sizes", (source.shape[-2], right.shape[-1]), shape[-2:])
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    tile = best_tile(state.isa, shape[-2], -(-shape[-1] // state.isa.lanes))
    state.steps.append(Matmul(source, _cheap(state, right), None, None, out, tile, epilogue.tree))
    return Leaf(out)


def _cheap(state: Lowering, value: Lazy) -> Lazy:
    """What is read once for each tile is stored first, unless it only moves elements."""
    return value if weight_of(value) == 0 else Leaf(state.tensor(value))
