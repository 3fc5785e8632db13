"""Determinants."""

from __future__ import annotations

import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ...cpu.determinant import Determinant
from ...cpu.elementwise import Elementwise
from ...cpu.lazy import Leaf
from ...dims import fixed
from ..attributes import describe, require_equal
from ..registry import lowers
from ..state import Lowering
from .movement import source_of


@lowers("Det")
def lower_determinant(state: Lowering, node: ir.Node) -> None:
    """Of square matrices in the last two axes, float32 or float64."""
    source = source_of(state, node)
    if source.dtype not in ("float32", "float64"):
        raise UnsupportedError("only float32 and float64", where=describe(node), got=source.dtype)
    sizes = [fixed(size, describe(node)) for size in source.shape]
    require_equal(node, "the last two axes", sizes[-1], sizes[-2])
    matrix = state.new_tensor(f"{node.name}.work", source.dtype, sizes)
    state.steps.append(Elementwise(source, matrix))
    out = state.new_tensor(node.name or "det", source.dtype, sizes[:-2])
    state.steps.append(Determinant(matrix, out))
    state.define(node.outputs[0], Leaf(out))
