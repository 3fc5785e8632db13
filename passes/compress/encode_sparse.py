"""Weights with many zeros are stored as the blocks that are not zero.

    Conv(x, W)            W float32 [O, I, 1, 1], 80 % zeros
    Conv(x, BlockSparseDecode(W.values, W.mask, W.shape))

Exact: the decoded weight has every value of the old one. A MatMul weight [K, N] is stored as its transpose,
since blocks run along outputs, and a Transpose follows the decoding; a Gemm weight is stored as for transB
= 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.block_sparse import block_grid, block_survivors

from ..base import change
from ..encoding import EncodingPass
from ..layers import Layer
from ..report import PassReport
from ..storing import Stored, refusal, store_weight

__all__ = ["EncodeSparse"]

_CANDIDATES = ((16, 1), (8, 1), (4, 1), (2, 1), (1, 1))
"""Blocks that kernels exist for, widest first: of equal sizes the wider one is faster."""


@dataclass(frozen=True, kw_only=True)
class EncodeSparse(EncodingPass):
    """Store weights in the block-sparse format where that is smaller, else leave them dense.

    `block` is `auto` (the smallest of 16x1, 8x1, 4x1, 2x1 and 1x1) or RxC. `min_saving` is the share of its
    bytes that a weight must save.
    """

    block: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]?x[1-9][0-9]?)$")] = "auto"
    min_saving: Annotated[float, Field(ge=0, lt=1)] = 0.05
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip", "block", "min_saving")

    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        if self.skip:
            return "the recipe skips it"
        if text := refusal(layer, model):
            return text
        tensor = layer.weight.const_value
        assert tensor is not None
        weight = layer.outputs_first(tensor.numpy())
        stored = _stored_bytes(weight, *self._best_block(weight))
        if stored >= tensor.nbytes * (1 - self.min_saving):
            zeros = 1 - np.count_nonzero(weight) / weight.size
            return f"at {zeros:.1%} zeros it would take {stored} bytes, dense takes {tensor.nbytes}"
        return ""

    def _best_block(self, weight: Array) -> tuple[int, int]:
        if self.block != "auto":
            rows, columns = map(int, self.block.split("x"))
            return rows, columns
        return min(_CANDIDATES, key=lambda block: _stored_bytes(weight, *block))

    def _encode(self, model: ir.Model, layer: Layer, report: PassReport) -> None:
        """Replace the weight by a call."""
        tensor = layer.weight.const_value
        assert tensor is not None
        weight = np.ascontiguousarray(layer.outputs_first(tensor.numpy()))
        rows, columns = self._best_block(weight)
        kind = find_format("block-sparse")
        stored = Stored(kind.name, kind.encode(weight, rows=rows, columns=columns))
        bits, count = stored.bits_per_weight(weight.size), len(stored.parts["values"])  # type: ignore[arg-type]
        detail = f"{rows}x{columns} blocks, {count} kept, {bits:.2f} bits per weight"
        change(report, layer.node, detail, tensor.nbytes, stored.nbytes)
        store_weight(model, layer, stored, weight.shape)


def _stored_bytes(weight: Array, rows: int, columns: int) -> int:
    """What `encode` would store, counted without packing."""
    blocks = prod(block_grid(weight.shape, rows, columns))
    values = 4 * rows * columns * max(1, block_survivors(weight, rows, columns))
    return values + -(-blocks // 8) + 8 * weight.ndim
