"""What convolutions and products do alike with a weight that is decoded while it is used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from ..cpu.epilogue import Accumulator
from ..cpu.isa import Isa
from ..cpu.lazy import Elementwise, Lazy, Leaf
from ..cpu.pixel_tile import tile_time
from ..cpu.register_tile import fits
from ..cpu.stored_blocks import StoredBlocks
from ..cpu.tensor import Tensor
from .choice import Choice
from .encoded.panels import ANY, StoredWeight
from .state import Lowering

__all__ = ["PlaneWeight", "block_strips", "pays", "scaled", "stored_pixel_tile", "with_scale"]

Array = np.ndarray[Any, np.dtype[Any]]
_HEIGHTS = (1, 2, 4, 8, 16, 32)  # of blocks of outputs: strips are whole vectors, or a part of one


@dataclass(frozen=True)
class PlaneWeight:
    """A weight that a convolution decodes, with the tile that its blocks were cut for."""

    blocks: StoredBlocks
    tensors: tuple[Tensor, ...]
    tile: tuple[int, int]
    choice: Choice
    stored: StoredWeight


def block_strips(positions: Array, height: int, lanes: int) -> list[Array]:
    """Strips [K, width] of every block of `height` outputs of (groups, outputs, K) positions in a weight."""
    groups, outputs, depth = positions.shape
    width = min(height, lanes)
    padded = np.full((groups, -(-outputs // height) * height, depth), ANY)
    padded[:, :outputs] = positions
    return list(padded.reshape(-1, width, depth).swapaxes(1, 2))


def stored_pixel_tile(isa: Isa, outputs: int, pixels: int) -> tuple[int, int]:
    """(rows, most vectors) of the tile with the least estimated time, of those that strips can fill."""
    tiles = [
        (height, vectors)
        for height in _HEIGHTS
        if height < 2 * outputs
        for vectors in range(1, max(1, min(6, pixels // isa.lanes)) + 1)
        if fits(isa, height, vectors)
    ]
    return min(tiles, key=lambda tile: tile_time(isa, outputs, pixels, tile))


def pays(stored: StoredWeight | None, weights: Array) -> bool:
    """Whether what is stored takes less than the dense weight: tables and padding may take more."""
    return stored is not None and stored.bytes < 4 * weights.size


def with_scale(
    state: Lowering, node: ir.Node, stored: StoredWeight, tree: Lazy, bias: Tensor | None, columns: int
) -> tuple[Lazy, Tensor | None]:
    """The epilogue of a product of `columns`, and its bias, which waits where the weight has scales."""
    if stored.scale is None:
        return tree, bias
    factors = state.pool.add(f"{node.name}.scale", np.ascontiguousarray(stored.scale, np.float32))
    row = None if bias is None else Leaf(bias.view((columns,), (1,)))
    return scaled(tree, Leaf(factors), row), None


def scaled(tree: Lazy, scale: Lazy, bias: Lazy | None) -> Lazy:
    """The epilogue with `accumulated · scale + bias` in place of what is accumulated."""
    if isinstance(tree, Accumulator):
        product = Elementwise("Mul", (tree, scale), "float32")
        return product if bias is None else Elementwise("Add", (product, bias), "float32")
    if isinstance(tree, Elementwise):
        known: dict[int, Lazy] = {}
        for part in tree.args:  # a part that is used twice stays one
            known.setdefault(id(part), scaled(part, scale, bias))
        return replace(tree, args=tuple(known[id(part)] for part in tree.args))
    return tree
