"""Products by weights with outliers: the product by the base, and then what the outliers add."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ...cpu.epilogue import Accumulator
from ...cpu.isa import Isa
from ...cpu.lazy import Leaf
from ...cpu.outlier_rows import ROUND, OutlierRows
from ...cpu.tensor import Tensor
from ...formats.outliers import outlier_places
from ..choice import Choice
from ..feature_major import matrix_view, row_tree
from ..fusion import Epilogue
from ..state import Encoded, Lowering
from .base import ProductKernel
from .base import product_kernel as kernel_of

__all__ = ["product_kernel"]

Array = npt.NDArray[Any]


def product_kernel(isa: Isa, encoded: Encoded, rows: int) -> ProductKernel | None:
    """A kernel for a few rows, where the base has one."""
    base = encoded.nested.get("base")
    if base is None or base.transposed:
        return None
    base = replace(base, transposed=True)
    inner = kernel_of(isa, base, rows) if rows < _FEW else None
    return None if inner is None else partial(_lower, encoded, inner)


_FEW = 4  # rows of activations, whose sums stay in registers


def _lower(
    encoded: Encoded,
    inner: ProductKernel,
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
    source = state.dense(Leaf(source))
    plain = Epilogue(Accumulator(shape), node.outputs[0])
    base, chosen = inner(state, node, source, weights, None, shape, choice, plain)
    arrays = _rows(encoded.parts, prod(encoded.parts["base"].shape[1:]), state.isa.lanes)
    name = f"{node.name}.outliers"
    starts, columns, differences = (
        state.pool.add(f"{name}.{part}", array, "rows") for part, array in arrays.items()
    )
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    tree = row_tree(state, epilogue.tree, shape)
    left, before = matrix_view(source), matrix_view(base)
    state.steps.append(OutlierRows(left, before, starts, columns, differences, bias, matrix_view(out), tree))
    stored = chosen.stored_bytes + sum(array.nbytes for array in arrays.values())
    return out, replace(chosen, format=f"{chosen.format} + outliers", stored_bytes=stored)


def _rows(parts: Any, inputs: int, lanes: int) -> dict[str, Array]:
    """starts, columns and differences of `OutlierRows`, which is what outliers are beyond the base."""
    places = outlier_places(parts)
    base = parts["base"].reshape(-1, inputs)
    row, column = np.divmod(places, inputs)
    difference = parts["values"].astype(np.float32) - base[row, column]
    rounds = -(-np.bincount(row, minlength=len(base)) // ROUND)
    starts = np.zeros(-(-len(base) // lanes) * lanes + 1, np.int32)
    starts[1 : len(rounds) + 1] = np.cumsum(rounds)
    starts[len(rounds) + 1 :] = starts[len(rounds)]
    first = np.searchsorted(row, np.arange(len(base)))  # places ascend
    at = starts[row] * ROUND + np.arange(len(row)) - first[row]
    count = max(1, int(starts[-1])) * ROUND
    columns = np.zeros(count, np.uint16 if inputs <= 1 << 16 else np.int32)
    differences = np.zeros(count, np.float32)
    columns[at], differences[at] = column, difference
    return {"starts": starts, "columns": columns, "differences": differences}
