"""Weights in the format `group-sparse-int4`: a few rows of activations times the surviving groups."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...cpu.group_decoding import decoding_for
from ...cpu.group_levels import GroupLayout, PackedGroups, pack_levels
from ...cpu.group_sparse_vector import GroupSparseVector, GroupTensors
from ...cpu.isa import Isa
from ...cpu.lazy import Leaf
from ...cpu.tensor import Tensor
from ...formats.group_sparse_int4 import Groups, parse_groups
from ..choice import Choice
from ..feature_major import matrix_view, row_tree
from ..fusion import Epilogue
from ..row_products import in_rows
from ..state import Encoded, Lowering
from ..stored_product import stored_product
from .base import ProductKernel

__all__ = ["product_kernel"]

_MOST_ROWS = 8  # that are multiplied group by group
_MOST_WIDE = 64  # with AVX-512, where panels cost more than decoding for every eighth row
_MANY_KEPT = 0.4  # of the groups: blocks of single weights would be no faster than decoded panels


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The product of a few rows, group by group; many rows of a weight that is not very sparse, by panels."""
    if rows > (_MOST_WIDE if isa.lanes == 16 else _MOST_ROWS):
        return _by_panels(isa, encoded, rows)

    def lowered(
        state: Lowering,
        node: ir.Node,
        source: Tensor,
        weights: np.ndarray,
        bias: Tensor | None,
        shape: tuple[int, ...],
        choice: Choice,
        epilogue: Epilogue,
    ) -> tuple[Tensor, Choice]:
        return _product(state, node, source, parse_groups(encoded.parts), bias, shape, epilogue)

    return lowered


def _by_panels(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """None where the general choice is as good: among sparse kernels, or where ARM reads features."""
    groups = parse_groups(encoded.parts)
    kept = len(groups.scale) / max(1, (len(groups.row_starts) - 1) * groups.across)
    if kept < _MANY_KEPT or isa.target.broadcast == "lane":
        return None

    def lowered(
        state: Lowering,
        node: ir.Node,
        source: Tensor,
        weights: np.ndarray,
        bias: Tensor | None,
        shape: tuple[int, ...],
        choice: Choice,
        epilogue: Epilogue,
    ) -> tuple[Tensor, Choice]:
        found = stored_product(state, node, encoded, weights, rows, planes=False)
        plain = Choice("gemm", 0, "", "panels would take more bytes than the dense weight")
        if found is None:
            return in_rows(state, node, source, weights, bias, shape, plain, epilogue)
        return found(state, node, source, weights, bias, shape, choice, epilogue)

    return lowered


def _product(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    groups: Groups,
    bias: Tensor | None,
    shape: tuple[int, ...],
    epilogue: Epilogue,
) -> tuple[Tensor, Choice]:
    layout = GroupLayout(groups.size, state.isa.lanes)
    packed = pack_levels(groups, layout)
    most = int(np.diff(packed.starts).max()) * layout.groups
    left = matrix_view(state.dense(Leaf(source), node.name or "matmul_in"))
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    tree = row_tree(state, epilogue.tree, shape)
    tensors = _tensors(state, node, groups, packed)
    state.steps.append(GroupSparseVector(left, tensors, bias, matrix_view(out), groups.size, most, tree))
    kept = len(groups.scale) / (len(groups.row_starts) - 1) / groups.across
    reason = f"{kept:.0%} of groups of {groups.size} survive, 4 bits decoded in registers"
    name = f"group-sparse int4 G{groups.size}"
    return out, Choice("group-sparse", 0, "", reason, kept, name, packed.bytes)


def _tensors(state: Lowering, node: ir.Node, groups: Groups, packed: PackedGroups) -> GroupTensors:
    name, packing = f"{node.name}.weight", f"groups of {groups.size} in 4 bits"
    tables = decoding_for(state.isa, groups.size).tables
    return GroupTensors(
        state.pool.add(name, packed.words, packing),
        state.pool.add(f"{name}.scales", packed.scales, packing),
        state.pool.add(f"{name}.places", packed.places, packing),
        state.pool.add(f"{name}.starts", packed.starts, packing),
        None if tables is None else state.pool.add("group_sparse.tables", tables, "tables of zero points"),
    )
