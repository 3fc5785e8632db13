"""Products of many rows whose weight stays as a format stores it: blocks are decoded when they are used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np
import onnx_ir as ir

from ..cpu.pixel_tile import best_pixel_tile
from ..cpu.stored_blocks import StoredDense
from ..cpu.stored_convolution import StoredConvolution
from ..cpu.tensor import Tensor
from ..cpu.window import Window
from .choice import Choice
from .encoded.panels import positions, store_strips
from .feature_major import as_image, feature_major, image_tree, new_feature_major
from .fusion import Epilogue
from .row_products import in_rows
from .state import Encoded, Lowering
from .stored_layers import PlaneWeight, block_strips, pays, stored_pixel_tile, with_scale
from .stored_sparse import store_sparse

__all__ = ["StoredProduct", "stored_product", "stored_sparse_product"]

StoredProduct = Callable[..., tuple[Tensor, Choice]]
"""`(state, node, source, weights, bias, shape, choice, epilogue) -> (result, choice)`"""


def stored_product(
    state: Lowering, node: ir.Node, encoded: Encoded | None, weights: np.ndarray, rows: int, planes: bool
) -> StoredProduct | None:
    """What computes `rows` rows, or `planes`, times the weight (K, N) as it is stored; None: nothing."""
    if encoded is None:
        return None
    lanes, columns = state.isa.lanes, weights.shape[1]
    tile = stored_pixel_tile(state.isa, columns, rows) if planes else (lanes, 1)
    places = positions(encoded, weights.shape).T[None]
    stored = store_strips(state, f"{node.name}.weight", encoded, block_strips(places, tile[0], lanes))
    if stored is None or not pays(stored, weights):
        return None
    if not planes:
        choice = stored.noted(Choice("gemm", 0, "", "decoded by panels, which all rows use"))
        return partial(in_rows, stored=stored, noted=choice)
    choice = stored.noted(Choice("gemm", 0, "", "decoded by blocks, which all rows use"))
    blocks = StoredDense(stored.strips, tile[0], len(weights))
    weight = PlaneWeight(blocks, stored.strips.tensors, tile, choice.with_tile(tile), stored)
    return partial(_in_planes, weight=weight)


def stored_sparse_product(
    state: Lowering, node: ir.Node, encoded: Encoded | None, weights: np.ndarray, rows: int
) -> StoredProduct | None:
    """The same for the surviving blocks of a sparse weight, over feature-major activations."""
    if encoded is None:
        return None
    matrix = np.ascontiguousarray(weights.T)
    places = positions(encoded, weights.shape).T
    store = store_sparse(state, f"{node.name}.weight", encoded, matrix, places, 1.0)
    if store is None or not pays(store.stored, weights):
        return None
    tile = best_pixel_tile(state.isa, len(matrix), rows, store.choice.rows)
    return partial(_in_planes, weight=store.weight(tile))


def _in_planes(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    weights: np.ndarray,
    bias: Tensor | None,
    shape: tuple[int, ...],
    choice: Choice,
    epilogue: Epilogue,
    *,
    weight: PlaneWeight,
) -> tuple[Tensor, Choice]:
    """As a 1×1 convolution over feature-major activations."""
    rows = prod(shape[:-1])
    image = as_image(feature_major(state, source))
    out = new_feature_major(state, epilogue.value.name or "matmul", shape)
    tree, bias = with_scale(state, node, weight.stored, epilogue.tree, bias, shape[-1])
    window = Window((1, rows), (1, rows), (1, 1))
    state.steps.append(
        StoredConvolution(
            *(image, weight.tensors, bias, as_image(out), window, 1, len(weights), weight.tile),
            image_tree(state, tree, shape),
            block_rows=weight.choice.rows,
            stored=weight.blocks,
        )
    )
    return out, weight.choice
