"""Products by block-sparse weights whose values are stored in turn: surviving blocks stay codes in memory."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ...cpu.isa import Isa
from ...cpu.lazy import Leaf
from ...cpu.sparse_palette_vector import SparseCodes, SparsePaletteVector
from ...cpu.table_lookup import table_lookup
from ...cpu.tensor import Tensor
from ...formats.block_sparse import block_grid
from ...formats.palette import Palette, parse_palette
from ..choice import Choice
from ..feature_major import matrix_view, row_tree
from ..fusion import Epilogue
from ..state import Encoded, Lowering
from .base import ProductKernel

__all__ = ["product_kernel"]

_FEW = 4  # rows of activations, from which other kernels are faster
_LEAST_ROWS = 4  # of a block: fewer need an activation for almost every lane
Array = npt.NDArray[Any]


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The kernel for a few rows and blocks of R x 1 whose values are a palette with one table."""
    values = encoded.nested.get("values")
    if rows >= _FEW or values is None or values.format.name != "palette":
        return None
    palette = parse_palette(values.parts)
    form = palette.form
    height, columns = form.shape[1:] if len(form.shape) == 3 else (0, 0)
    single = prod(form.lut_shape[:3]) == 1 and form.vector == 1 and (palette.scale == 1).all()
    if not single or columns != 1 or height not in (_LEAST_ROWS, 8, 16, 32) or height > 4 * isa.lanes:
        return None
    packed = _Packed(isa, palette, height, encoded.parts)
    return packed.lower if packed.lookup.vectors * isa.lanes % height == 0 else None


class _Packed:
    """Surviving blocks as `SparsePaletteVector` reads them."""

    def __init__(self, isa: Isa, palette: Palette, height: int, parts: Any) -> None:
        self.isa, self.height, self.bits = isa, height, palette.form.bits
        self.luts = palette.tables.reshape(1, -1)
        self.lookup = table_lookup(isa, self.bits, self.luts)
        shape = tuple(int(size) for size in parts["shape"])
        down, self.depth = block_grid(shape, height, 1)
        alive = np.unpackbits(parts["mask"], bitorder="little", count=down * self.depth).astype(bool)
        self.alive = alive.reshape(down, self.depth)
        self.codes = palette.codes.reshape(-1, height)  # of the surviving blocks, in order

    def groups(self) -> tuple[Array, Array, Array]:
        """Codes (groups, items), columns (groups, blocks), starts (rows of blocks + 1,)."""
        size = self.lookup.vectors * self.isa.lanes // self.height  # blocks of a group
        counts = self.alive.sum(axis=1)
        groups = -(-counts // size)
        starts = np.concatenate([[0], np.cumsum(groups)]).astype(np.int32)
        rows, columns = np.nonzero(self.alive)
        inside = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        place = starts[rows] * size + inside
        paired = self.depth < 1 << 16 and size % 2 == 0
        kind = np.uint16 if paired else np.int32
        where = np.full(starts[-1] * size, self.depth, kind)
        where[place] = columns
        codes = np.zeros((len(where), self.height), np.uint8)
        codes[place] = self.codes
        vectors = codes.reshape(int(starts[-1]), self.lookup.vectors, self.isa.lanes)
        return self.lookup.pack(vectors), where.view(np.uint32) if paired else where, starts

    def lower(
        self,
        state: Lowering,
        node: ir.Node,
        source: Tensor,
        weights: Array,
        bias: Tensor | None,
        shape: tuple[int, ...],
        choice: Choice,
        epilogue: Epilogue,
    ) -> tuple[Tensor, Choice]:
        """As the products of `operators/matmul.py`."""
        name, packing = f"{node.name}.weight", f"block-sparse {self.height}x1 of palette {self.bits} bit"
        arrays = dict(zip(("codes", "columns", "starts"), self.groups(), strict=True))
        arrays["table"] = self.lookup.tables(self.luts)
        arrays["mask"] = np.where(np.arange(2 * self.height) < self.height, 0xFFFFFFFF, 0).astype(np.uint32)
        tensors = [state.pool.add(f"{name}.{part}", array, packing) for part, array in arrays.items()]
        out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
        left, tree = matrix_view(state.dense(Leaf(source))), row_tree(state, epilogue.tree, shape)
        kernel = SparsePaletteVector(
            left, SparseCodes(*tensors), bias, matrix_view(out), self.lookup, self.height, tree
        )
        state.steps.append(kernel)
        chosen = replace(
            choice,
            kernel=kernel.family,
            rows=0,
            kept=float(self.alive.mean()),
            format=packing,
            stored_bytes=sum(array.nbytes for array in arrays.values()),
            reason="few rows: codes of surviving blocks are decoded in registers",
        )
        return out, chosen.with_tile((1, max(1, self.height // self.isa.lanes)))
