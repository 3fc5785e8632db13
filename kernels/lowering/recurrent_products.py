"""Products of the inputs of a recurrent layer where rows, or weights, are known only at run time."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..cpu.any_product import AnyProduct
from ..cpu.any_rows import AnyRows
from ..cpu.epilogue import Accumulator
from ..cpu.lazy import Leaf
from ..cpu.matmul import Matmul
from ..cpu.register_tile import best_tile
from ..cpu.tensor import Tensor
from ..dims import is_fixed
from .choice import Choice
from .packing import pack_columns
from .report import report_layer
from .state import Lowering

__all__ = ["any_rows", "row_products"]

_MANY_ROWS = 1 << 12  # for which the tile is chosen: few rows leave most of any tile unused
_MOST_VECTORS = 4


def any_rows(
    state: Lowering, node: ir.Node, left: Tensor, columns: np.ndarray, bias: Tensor | None
) -> Tensor:
    """(M, K) · (K, N) + bias for any M."""
    lanes, width = state.isa.lanes, columns.shape[1]
    lane = state.isa.target.broadcast == "lane"
    shape = (left.shape[0], width)
    out = state.new_tensor("products", "float32", shape)
    tile = best_tile(state.isa, _MANY_ROWS, -(-width // lanes), _MOST_VECTORS, lane)
    packed = pack_columns(columns, lanes, tile[1])
    panels = state.pool.add(f"{node.name}.weight", packed, f"panels of {tile[1]} vectors")
    state.steps.append(AnyRows(left, None, panels, bias, out, tile, Accumulator(shape)))
    choice = Choice("gemm", 0, "", "products of all inputs, whose rows are known at run time")
    report_layer(state, node, columns, out, choice.with_tile(tile), None)
    return out


def row_products(state: Lowering, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """(M, K) · (K, N) + bias of weights that are computed when the model runs."""
    shape = (left.shape[0], right.shape[1])
    vectors, lane = shape[1] // state.isa.lanes, state.isa.target.broadcast == "lane"
    out = state.new_tensor("products", "float32", shape)
    if is_fixed(shape[0]):
        tile = best_tile(state.isa, shape[0], vectors)
        state.steps.append(Matmul(left, Leaf(right), None, bias, out, tile, Accumulator(shape)))
        return out
    tile = best_tile(state.isa, _MANY_ROWS, vectors, vector_rows=lane)
    state.steps.append(AnyProduct(left, Leaf(right), out, tile, Accumulator(shape)))
    if bias is None:
        return out
    row = Leaf(bias.view((1, shape[1]), (shape[1], 1)))
    return state.dense(state.elementwise("Add", [Leaf(out), row], "float32"), "products")
