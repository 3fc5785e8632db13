"""Products of compressed weights and any number of rows: which kernel keeps them as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from ...cpu.any_stored import AnyRowsSparse, AnyRowsStored
from ...cpu.register_tile import best_tile
from ...cpu.tensor import Tensor
from ..choice import Choice, choose_rows
from ..encoded.panels import StoredWeight, positions, store_strips
from ..feature_major import row_tree
from ..fusion import Epilogue
from ..packing import sparse_rows
from ..state import Encoded, Lowering
from ..stored_layers import block_strips, pays, with_scale

__all__ = ["compressed_rows"]

_MANY_ROWS = 1 << 12  # for which the tile is chosen
_MOST_VECTORS = 4
_RATE = 0.5  # of the dense kernel's, for whole vectors of outputs: a step loads as much as it multiplies


def compressed_rows(
    state: Lowering, node: ir.Node, weights: np.ndarray, encoded: Encoded | None
) -> Callable[..., Choice] | None:
    """What computes rows times the weight (K, N) as it is stored; None where a dense one is faster.

    It is called as `(state, node, left, weights, bias, out, epilogue)` and returns what the report says.
    """
    choice = choose_rows(state.isa, np.ascontiguousarray(weights.T))
    filled = min(1.0, choice.rows / state.isa.lanes)
    if choice.rows and choice.kept < _RATE * filled:
        return partial(_sparse, choice=choice)
    if encoded is None:
        return None
    lanes = state.isa.lanes
    places = positions(encoded, weights.shape).T[None]
    stored = store_strips(state, f"{node.name}.weight", encoded, block_strips(places, lanes, lanes))
    return partial(_stored, stored=stored) if stored is not None and pays(stored, weights) else None


def _stored(
    state: Lowering,
    node: ir.Node,
    left: Tensor,
    weights: np.ndarray,
    bias: Tensor | None,
    out: Tensor,
    epilogue: Epilogue,
    stored: StoredWeight,
) -> Choice:
    isa, columns = state.isa, weights.shape[1]
    tile = best_tile(isa, _MANY_ROWS, -(-columns // isa.lanes), _MOST_VECTORS, isa.target.broadcast == "lane")
    tree, bias = with_scale(state, node, stored, epilogue.tree, bias, columns)
    state.steps.append(AnyRowsStored(left, None, None, bias, out, tile, tree, stored.strips))
    reason = "decoded by panels, which all rows use; rows are known at run time"
    return stored.noted(Choice("gemm", 0, "", reason)).with_tile(tile)


def _sparse(
    state: Lowering,
    node: ir.Node,
    left: Tensor,
    weights: np.ndarray,
    bias: Tensor | None,
    out: Tensor,
    epilogue: Epilogue,
    choice: Choice,
) -> Choice:
    packing, name = f"block-sparse {choice.rows}x1", f"{node.name}.weight"
    sparse = sparse_rows(np.ascontiguousarray(weights.T), choice.rows)
    parts = (
        state.pool.add(name, sparse.values, packing),
        state.pool.add(f"{name}.columns", sparse.columns, packing),
        state.pool.add(f"{name}.starts", sparse.starts, packing),
    )
    tree = row_tree(state, epilogue.tree, out.shape)
    state.steps.append(AnyRowsSparse(left, parts, bias, out, choice.rows, tree))
    return choice.with_tile((choice.rows, 1))
