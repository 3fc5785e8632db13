"""Weights in the format `n-m`: rows of activations times the stored weights."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from ...bit_packing import unpack_bits
from ...cpu.isa import Isa
from ...cpu.lazy import Leaf
from ...cpu.n_m_matmul import NMForm, NMMatmul, handles, pack_n_m
from ...cpu.register_tile import best_tile
from ...cpu.tensor import Tensor
from ...formats.n_m import position_bits
from ..choice import Choice
from ..feature_major import matrix_view, row_tree
from ..fusion import Epilogue
from ..state import Encoded, Lowering
from .base import ProductKernel

__all__ = ["product_kernel"]


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The product of `rows` rows, where a group fits a register."""
    form = _form(encoded)
    if not handles(isa, form):
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
        return _product(state, node, source, encoded, form, bias, shape, epilogue)

    return lowered


def _form(encoded: Encoded) -> NMForm:
    shape = encoded.parts["shape"]
    return NMForm(encoded.parts["values"].shape[3], int(encoded.parts["group"][0]), int(shape[1]))


def _product(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    encoded: Encoded,
    form: NMForm,
    bias: Tensor | None,
    shape: tuple[int, ...],
    epilogue: Epilogue,
) -> tuple[Tensor, Choice]:
    isa, rows = state.isa, prod(shape[:-1])
    tile = _tile(isa, rows, -(-shape[-1] // isa.lanes))
    values = encoded.parts["values"]
    positions = unpack_bits(encoded.parts["positions"], position_bits(form.of), values.size)
    packed = pack_n_m(values[:, 0], positions.reshape(values.shape)[:, 0], form, isa.lanes, tile[1])
    name, packing = f"{node.name}.weight", f"{form.kept}:{form.of}, panels of {tile[1]} vectors"
    parts = (
        state.pool.add(name, packed[0], packing),
        state.pool.add(f"{name}.positions", packed[1], packing),
    )
    left = state.dense(Leaf(source), node.name or "matmul_in")
    if left.place == "input" and form.depth % form.of:
        left = state.copy(left)  # whole groups are read
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    tree = row_tree(state, epilogue.tree, shape)
    state.steps.append(NMMatmul(matrix_view(left), *parts, bias, matrix_view(out), form, tile, tree))
    return out, _choice(form, tile, sum(part.nbytes for part in packed))


def _tile(isa: Isa, rows: int, vectors: int) -> tuple[int, int]:
    return best_tile(isa, min(rows, 6), vectors, 8 if rows == 1 else 4)


def _choice(form: NMForm, tile: tuple[int, int], size: int) -> Choice:
    name = f"{form.kept}:{form.of}"
    return Choice(
        "n-m",
        0,
        "",
        f"{name}: one permutation for each stored weight",
        form.kept / form.of,
        f"n-m {name}",
        size,
    ).with_tile(tile)
