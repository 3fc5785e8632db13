"""Products of many rows whose weight stays as a format stores it: panels are decoded when they are used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from ..cpu.tensor import Tensor
from .choice import Choice
from .encoded.panels import positions, store_strips
from .plane_products import in_planes
from .row_products import in_rows
from .state import Encoded, Lowering
from .stored_layers import block_strips, pays, stored_pixel_tile

__all__ = ["StoredProduct", "stored_product"]

StoredProduct = Callable[..., tuple[Tensor, Choice]]


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
    return partial(in_planes, stored=(stored, tile)) if planes else partial(in_rows, stored=stored)
