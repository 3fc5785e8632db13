"""What rules of matrix products share: checks, the addend, the epilogue, and the end of a rule."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import UnsupportedError

from ..cpu.lazy import Fill, Lazy
from ..cpu.tensor import Tensor
from .attributes import describe
from .fusion import Epilogue, grow_epilogue
from .state import Lowering

__all__ = ["add", "bias_row", "finish", "fits_rows", "grow_rows", "require_float32", "right_value"]


def right_value(node: ir.Node) -> ir.Value:
    """The right side of a product."""
    value = node.inputs[1]
    assert value is not None
    return value


def require_float32(node: ir.Node, value: Lazy) -> None:
    """Raises UnsupportedError for another element type."""
    if value.dtype != "float32":
        raise UnsupportedError("only float32", where=describe(node), got=value.dtype)


def add(state: Lowering, value: Lazy, other: Lazy, factor: float) -> Lazy:
    """value + factor · other."""
    if factor != 1.0:
        other = state.elementwise("Mul", [other, Fill(factor, "float32")], "float32")
    return state.elementwise("Add", [value, other], "float32")


def bias_row(
    state: Lowering, node: ir.Node, addend: ir.Value | None, beta: float, columns: int
) -> tuple[Tensor | None, Lazy | None]:
    """(constant row added in the accumulators, anything else to be added afterwards)."""
    if addend is None or beta == 0.0:
        return None, None
    array = state.constant(addend)
    if array is None or (array.ndim == 2 and array.shape[0] not in (1,)) or array.size not in (1, columns):
        return None, state.lazy(addend)
    lanes = state.isa.lanes
    row = np.zeros(-(-columns // lanes) * lanes, np.float32)
    row[:columns] = array.reshape(-1) * np.float32(beta)
    return state.pool.add(f"{node.name}.bias", row), None


def grow_rows(state: Lowering, node: ir.Node, shape: tuple[int, ...]) -> Epilogue:
    """The epilogue of a product that is computed row by row."""
    return grow_epilogue(state, node.outputs[0], shape, lambda t: fits_rows(t, shape, state.isa.lanes))


def fits_rows(tensor: Tensor, shape: tuple[int, ...], lanes: int) -> bool:
    """Operands a tile can read: broadcast against the product, columns side by side."""
    rank = len(tensor.shape)
    if tensor.size == 1:
        return True
    if rank > len(shape) or any(
        n not in (1, m) for n, m in zip(tensor.shape[::-1], shape[::-1], strict=False)
    ):
        return False
    if tensor.shape[-1] == 1:
        return True
    return tensor.strides[-1] == 1 and (tensor.place != "input" or shape[-1] % lanes == 0)


def finish(state: Lowering, epilogue: Epilogue, product: Lazy) -> None:
    """States what the value behind the epilogue is."""
    state.absorbed.update(epilogue.nodes)
    state.define(epilogue.value, product)
