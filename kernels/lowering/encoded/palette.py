"""Products by palettes: weights stay codes in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ...cpu.code_lookup import TableLookup
from ...cpu.code_order import code_order
from ...cpu.isa import Isa
from ...cpu.lazy import Leaf
from ...cpu.palette_vector import PaletteVector, Segments, panel_vectors
from ...cpu.table_lookup import table_lookup
from ...cpu.tensor import Tensor
from ...formats.palette import Palette, parse_palette
from ..choice import Choice
from ..feature_major import matrix_view, row_tree
from ..fusion import Epilogue
from ..state import Encoded, Lowering
from .base import ProductKernel

__all__ = ["product_kernel"]

_FEW = 4  # rows of activations, from which decoding a weight once for all of them is worth a panel
_MOST_WASTE = 1.25  # codes of a weight whose segments end inside groups, for each of its inputs
Array = npt.NDArray[Any]


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The kernel for a few rows, whose time is that of reading the codes."""
    if rows >= _FEW:
        return None
    palette = parse_palette(encoded.parts)
    if palette.form.vector > 1:
        return None
    packed = _Packed(isa, palette, encoded.parts)
    return packed.lower if packed.fits else None


class _Packed:
    """A palette as `PaletteVector` reads it."""

    def __init__(self, isa: Isa, palette: Palette, parts: Mapping[str, Array]) -> None:
        form = palette.form
        self.isa, self.palette, self.form = isa, palette, form
        self.luts, self.factors = _tables(palette, parts)
        self.lookup: TableLookup = table_lookup(isa, form.bits, self.luts)
        self.width = panel_vectors(self.lookup)
        self.order = code_order(self.lookup, self.width)
        self.segments = Segments(form.books, form.inputs, min(form.block_columns, form.inputs))

    @property
    def fits(self) -> bool:
        """Whether the lanes of a panel share tables, and segments nearly fill their groups."""
        outputs, form = self.width * self.isa.lanes, self.form
        shared = form.group_rows >= form.outputs or form.group_rows % outputs == 0
        taken = sum(count * self.order.groups(length) for count, length in self.segments.runs)
        whole = self.order.groups(form.inputs)
        return shared and (taken == whole or taken * self.order.steps <= _MOST_WASTE * form.inputs)

    def codes(self) -> Array:
        """(panels, books, groups, items): the groups of one segment after the other."""
        form, lookup, outputs = self.form, self.lookup, self.width * self.isa.lanes
        panels = -(-form.outputs // outputs)
        depth = np.concatenate(
            [
                np.where(inputs < length, inputs + start, form.inputs)
                for start, length in self._starts()
                for inputs in self.order.inputs(length)
            ]
        )
        padded = np.zeros((form.books, panels * outputs, form.inputs + 1), np.uint8)
        padded[:, : form.outputs, : form.inputs] = self.palette.codes
        turned = padded[..., depth].reshape(form.books, panels, outputs, -1).transpose(1, 0, 3, 2)
        return lookup.pack(turned.reshape(panels, form.books, -1, lookup.vectors, self.isa.lanes))

    def _starts(self) -> Iterator[tuple[int, int]]:
        """(first input, length) of each segment."""
        start = 0
        for count, length in self.segments.runs:
            for _ in range(count):
                yield start, length
                start += length

    def scale(self) -> Array | None:
        """(N,) in whole vectors, None where all are one."""
        group = np.arange(self.form.outputs) // self.form.group_rows
        scale = self.palette.scale * self.factors[group]
        if (scale == 1).all():
            return None
        whole = np.zeros(-(-self.form.outputs // self.isa.lanes) * self.isa.lanes, np.float32)
        whole[: self.form.outputs] = scale
        return whole

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
        name, packing = f"{node.name}.weight", f"palette {self.form.bits} bit"
        codes, tables, scale = self.codes(), self.lookup.tables(self.luts), self.scale()
        kernel = PaletteVector(
            matrix_view(state.dense(Leaf(source))),
            state.pool.add(name, codes, packing),
            state.pool.add(f"{name}.table", tables, packing),
            None if scale is None else state.pool.add(f"{name}.scale", scale),
            bias,
            matrix_view(out := state.new_tensor(epilogue.value.name or "matmul", "float32", shape)),
            self.lookup,
            self.segments,
            self.form.group_rows,
            row_tree(state, epilogue.tree, shape),
        )
        state.steps.append(kernel)
        stored = codes.nbytes + tables.nbytes + (0 if scale is None else scale.nbytes)
        chosen = replace(
            choice,
            kernel=kernel.family,
            rows=0,
            kept=1.0,
            format=packing,
            stored_bytes=stored,
            reason="few rows: codes are decoded in registers",
        )
        return out, chosen.with_tile((1, self.width))


def _tables(palette: Palette, parts: Mapping[str, Array]) -> tuple[Array, Array]:
    """(groups · books · blocks, entries), and a factor for the results of each group.

    Where a group has one table, its scale is such a factor: entries of int8 stay short, and decode faster.
    """
    form, tables, factors = palette.form, palette.tables, np.ones(1, np.float32)
    groups = form.lut_shape[1]
    if form.books == 1 and form.lut_shape[2] == 1:
        tables = parts["lut"].astype(np.float32)
        factors = parts["lut_scale"].astype(np.float32).reshape(-1)
    luts = tables[..., 0].transpose(1, 0, 2, 3)
    return luts.reshape(-1, luts.shape[-1]), np.broadcast_to(factors, (groups,))
