"""Products of row-major activations and weights in panels of a few vectors of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..cpu.lazy import Leaf, leaves
from ..cpu.matmul import Matmul
from ..cpu.register_tile import best_tile, good_tiles
from ..cpu.stored_matmul import StoredMatmul
from ..cpu.tensor import Tensor
from .choice import Choice
from .encoded.panels import StoredWeight
from .feature_major import matrix_view
from .fusion import Epilogue
from .packing import pack_columns
from .state import Lowering
from .stored_layers import with_scale
from .ways import TRIED, Way, choose_way

__all__ = ["in_rows", "product_signature"]

_MOST_VECTORS = 8  # of a tile whose right side is a weight


def in_rows(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    weights: np.ndarray,
    bias: Tensor | None,
    shape: tuple[int, ...],
    choice: Choice,
    epilogue: Epilogue,
    stored: StoredWeight | None = None,
    noted: Choice | None = None,
) -> tuple[Tensor, Choice]:
    """Row-major products; batch axes are folded into rows where the epilogue allows.

    A `stored` weight is decoded panel by panel, in strips of one vector of columns; `noted` says so.
    """
    operand = state.dense(Leaf(source), node.name or "matmul_in")
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    target = out
    if len(shape) == 2 or all(_folds(t, shape) for t in leaves(epilogue.tree)):
        operand, target = matrix_view(operand), matrix_view(out)
    vectors = -(-shape[-1] // state.isa.lanes)
    lanes = state.isa.target.broadcast == "lane"
    rows = target.shape[-2]
    first = best_tile(state.isa, rows, vectors, _MOST_VECTORS, lanes)
    if stored:
        tree, bias = with_scale(state, node, stored, epilogue.tree, bias, shape[-1])
        state.steps.append(StoredMatmul(operand, None, None, bias, target, first, tree, stored.strips))
        return out, (noted or choice).with_tile(first)

    def way(tile: tuple[int, int]) -> Way:
        return Way(choice.with_tile(tile), lambda state: lower(state, tile))

    def lower(state: Lowering, tile: tuple[int, int]) -> None:
        packed = pack_columns(weights, state.isa.lanes, tile[1])
        panels = state.pool.add(f"{node.name}.weight", packed, f"panels of {tile[1]} vectors")
        state.steps.append(Matmul(operand, None, panels, bias, target, tile, epilogue.tree))

    best = choose_way(
        state,
        f"{rows}x{weights.shape[0]} times {weights.shape[0]}x{weights.shape[1]}",
        product_signature(operand, target, epilogue, bias is not None),
        way(first),
        lambda: [way(t) for t in good_tiles(state.isa, rows, vectors, TRIED, _MOST_VECTORS, lanes)],
    )
    best.lower(state)
    return out, best.choice


def product_signature(left: Tensor, out: Tensor, epilogue: Epilogue, *more: object) -> tuple[Any, ...]:
    """What the time of a product depends on."""
    return ("MatMul", Leaf(left).key, left.place, Leaf(out).key, epilogue.tree.key, *more)


def _folds(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Operands that stay readable when batch axes become rows: one value, one row, or a whole tensor."""
    row = tensor.size == tensor.shape[-1] == shape[-1] if tensor.shape else True
    return tensor.size == 1 or row or (tensor.shape == shape and tensor.is_contiguous)
