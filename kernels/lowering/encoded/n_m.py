"""Weights in the format `n-m`: rows of activations times the stored weights, where that is not slower.

A stored weight takes as long as a few dense ones, since its activation must be found; how many was measured
for each way to find it. A weight beyond the cache takes the time of its bytes as well.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from ...bit_packing import unpack_bits
from ...cpu.isa import Isa
from ...cpu.lazy import Leaf
from ...cpu.n_m_matmul import NMMatmul
from ...cpu.n_m_picking import NMForm, Picking, pack_values, picking_for
from ...cpu.register_tile import best_tile
from ...cpu.tensor import Tensor
from ...formats.n_m import position_bits
from ..choice import Choice
from ..feature_major import matrix_view, row_tree
from ..fusion import Epilogue
from ..row_products import in_rows
from ..state import Encoded, Lowering
from .base import ProductKernel

__all__ = ["product_kernel"]

# Time of a stored weight over that of a dense one in cache, by lanes. 16 was measured with AVX-512 on Zen 4:
# 2:4 takes 0.80 to 0.91 of the dense time, 1:4 0.44 to 0.53. 4 in Node: 1.05 to 1.45, 0.68 to 0.78. 8 is a
# guess.
_COST = {16: 1.8, 8: 2.0, 4: 2.8}
_FEW_ROWS = 4  # take the time of the weight's bytes, where it does not fit the cache
_BEYOND_CACHE = 0.55  # of the time: 2:4 took 0.72 to 0.81 in Node


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """The product of `rows` rows: of the stored weights, or dense where few rows would take longer."""
    form = _form(encoded)
    picking = picking_for(isa, form)
    time = _time(isa, form, encoded, rows)
    if picking is None or time > 1:
        slower = f"would take {time:.2f} of the dense time"
        return None if rows >= _FEW_ROWS else _dense(form, slower if picking else "has no kernel here")

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
        return _product(state, node, source, encoded, picking, bias, shape, epilogue, time)

    return lowered


def _time(isa: Isa, form: NMForm, encoded: Encoded, rows: int) -> float:
    """Over that of the dense product, by estimate."""
    outputs = encoded.parts["values"].shape[0]
    time = form.kept / form.of * _COST.get(isa.lanes, _COST[4])
    beyond = rows < _FEW_ROWS and 4 * outputs * form.depth > isa.target.l2_bytes
    return time * _BEYOND_CACHE if beyond else time


def _dense(form: NMForm, why: str) -> ProductKernel:
    """Few rows times dense weights: blocks of one output would be slower still."""
    reason = f"{form.kept}:{form.of} {why}"
    return lambda state, node, source, weights, bias, shape, choice, epilogue: in_rows(
        state, node, source, weights, bias, shape, Choice("gemm", 0, "", reason), epilogue
    )


def _form(encoded: Encoded) -> NMForm:
    shape = encoded.parts["shape"]
    return NMForm(encoded.parts["values"].shape[3], int(encoded.parts["group"][0]), int(shape[1]))


def _product(
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    encoded: Encoded,
    picking: Picking,
    bias: Tensor | None,
    shape: tuple[int, ...],
    epilogue: Epilogue,
    time: float,
) -> tuple[Tensor, Choice]:
    isa, rows, form = state.isa, prod(shape[:-1]), picking.form
    tile = _tile(isa, rows, -(-shape[-1] // isa.lanes))
    values = encoded.parts["values"]
    stream = unpack_bits(encoded.parts["positions"], position_bits(form.of), values.size)
    packed = pack_values(values[:, 0], stream.reshape(values.shape)[:, 0], picking, tile[1])
    name, packing = f"{node.name}.weight", f"{form.kept}:{form.of}, panels of {tile[1]} vectors"
    parts = (
        state.pool.add(name, packed[0], packing),
        state.pool.add(f"{name}.positions", packed[1], packing),
        None if picking.table is None else state.pool.add("n_m.table", picking.table, "bytes by positions"),
    )
    left = state.dense(Leaf(source), node.name or "matmul_in")
    if left.place == "input" and form.depth % form.of:
        left = state.copy(left)  # whole groups are read
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    tree = row_tree(state, epilogue.tree, shape)
    state.steps.append(NMMatmul(matrix_view(left), *parts, bias, matrix_view(out), form, tile, tree))
    return out, _choice(form, tile, time, sum(part.nbytes for part in packed))


def _tile(isa: Isa, rows: int, vectors: int) -> tuple[int, int]:
    return best_tile(isa, min(rows, 6), vectors, 8 if rows == 1 and isa.lanes > 4 else 4)


def _choice(form: NMForm, tile: tuple[int, int], time: float, size: int) -> Choice:
    name = f"{form.kept}:{form.of}"
    reason = f"{name}: estimated {time:.2f} of dense time"
    return Choice("n-m", 0, "", reason, form.kept / form.of, f"n-m {name}", size).with_tile(tile)
