"""Products by spqr weights: a few rows by a kernel that reads codes, scales and zeros as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ...cpu.half import half_bits
from ...cpu.isa import Isa
from ...cpu.lazy import Leaf
from ...cpu.spqr_vector import CHUNK, SpqrVector
from ...cpu.tensor import Tensor
from ...formats.spqr import Spqr, parse_spqr
from ..choice import Choice
from ..feature_major import matrix_view, row_tree
from ..fusion import Epilogue
from ..state import Encoded, Lowering
from .base import ProductKernel
from .spqr_panels import grid_factors

__all__ = ["product_kernel"]

_FEW = 4  # rows of activations, from which decoding a weight once for all of them is worth a panel
Array = npt.NDArray[Any]


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The kernel for a few rows; None where groups or grids do not fill vectors."""
    if rows >= _FEW:
        return None
    spqr = parse_spqr(encoded.parts)
    form = spqr.form
    groups = CHUNK % form.group == 0 or form.group % CHUNK == 0
    grids = form.rows % isa.lanes == 0 or form.rows >= spqr.shape[0]
    fits = groups and grids and form.scale_bits + form.zero_bits <= 8
    return _Packed(isa, spqr).lower if fits else None


class _Packed:
    """A weight as `SpqrVector` reads it."""

    def __init__(self, isa: Isa, spqr: Spqr) -> None:
        self.spqr, self.form, self.lanes = spqr, spqr.form, isa.lanes
        self.outputs, self.inputs = spqr.codes.shape
        self.width = 2 if isa.lanes < 8 and self.form.rows % (2 * isa.lanes) == 0 else 1
        self.panels = -(-self.outputs // (isa.lanes * self.width)) * self.width
        span = max(CHUNK, self.form.group)
        self.depth = -(-self.inputs // span) * span
        self.groups = self.depth // self.form.group

    def codes(self) -> Array:
        """int32 (panels, chunks, n, lanes)."""
        padded = np.zeros((self.panels * self.lanes, self.depth), np.uint8)
        padded[: self.outputs, : self.inputs] = self.spqr.codes
        bits = np.unpackbits(padded[..., None], axis=2, count=self.form.bits, bitorder="little")
        packed = np.packbits(bits.reshape(len(padded), -1), axis=1, bitorder="little")
        words = packed.view("<i4").reshape(self.panels, self.lanes, -1, self.form.bits)
        return np.ascontiguousarray(words.transpose(0, 2, 3, 1))

    def stats(self) -> Array:
        """uint8 (panels, groups, lanes)."""
        both = self.spqr.scales | self.spqr.zeros << self.form.scale_bits
        padded = np.zeros((self.panels * self.lanes, self.groups), np.uint8)
        padded[: self.outputs, : both.shape[1]] = both
        return np.ascontiguousarray(padded.reshape(self.panels, self.lanes, -1).transpose(0, 2, 1))

    def grids(self) -> Array:
        """float16 as uint16 (panels of the grid, groups, 4)."""
        _, panels, groups = self.spqr.grids.shape
        padded = np.zeros((panels, self.groups, 4), np.uint16)
        padded[:, :groups] = half_bits(self.spqr.grids).transpose(1, 2, 0)
        return padded

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
        name, packing = f"{node.name}.weight", f"spqr {self.form.bits} bit"
        levels = np.float32(2**self.form.bits)
        factors = grid_factors(self.spqr) * np.array([levels, levels, 1 / levels, 1 / levels], np.float32)
        arrays = {"codes": self.codes(), "stats": self.stats(), "grids": self.grids(), "factors": factors}
        codes, stats, grids, scaling = (
            state.pool.add(f"{name}.{part}", array, packing) for part, array in arrays.items()
        )
        out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
        tree = row_tree(state, epilogue.tree, shape)
        left = matrix_view(state.dense(Leaf(source)))
        kernel = SpqrVector(
            left, codes, stats, grids, scaling, bias, matrix_view(out), self.form, tree, self.width
        )
        state.steps.append(kernel)
        chosen = replace(
            choice,
            kernel=kernel.family,
            rows=0,
            kept=1.0,
            format=packing,
            stored_bytes=sum(array.nbytes for array in arrays.values()),
            reason="few rows: codes are decoded in registers",
        )
        return out, chosen.with_tile((1, 1))
