"""Products of integers on both sides: attention's scores and mixes in models quantised elsewhere."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ..cpu.integer_dot import Dot, integer_dot
from ..cpu.integer_packing import PackColumns
from ..cpu.integer_product import IntegerProduct, Reach
from ..cpu.integer_tile import best_integer_tile
from ..cpu.integer_widened import WidenedProduct, widens
from ..cpu.lazy import Leaf
from ..cpu.tensor import Tensor
from .attributes import describe, require_equal
from .fusion import grow_epilogue
from .integer_rows import stored_rows
from .integer_tree import Sums, finish_of
from .quantized import Quantized, quantized_of
from .state import Lowering, filled_shape

__all__ = ["integer_pair"]

_GROUP = 4  # elements that are read at once


def integer_pair(state: Lowering, node: ir.Node) -> bool:
    """Lowers a MatMul of two dequantised activations; False where it is none, or none done in integers."""
    x, w = (quantized_of(state, v) for v in node.inputs[:2])
    if x is None or w is None or state.constant(w.integers) is not None:
        return False
    reason = _refusal(state, x, w)
    if reason:
        state.float_reasons[x.node] = state.float_reasons[w.node] = reason
        return False
    left, right = _left(state, x, node), _right(state, w)
    if left is None or right is None:
        state.float_reasons[x.node] = state.float_reasons[w.node] = "matrices lie apart in several ways"
        return False
    _lower(state, node, x, w, left, right)
    return True


def _refusal(state: Lowering, x: Quantized, w: Quantized) -> str:
    for q in (x, w):
        if q.dtype not in ("int8", "uint8") or not q.per_tensor:
            return f"an operand is {q.dtype}, {'per tensor' if q.per_tensor else 'with scales of its own'}"
        if q.integers not in state.values and q.integers not in state.arrays:
            return "an operand is not computed yet"
    a, b = state.lazy(x.integers).shape, state.lazy(w.integers).shape
    if len(a) < 2 or a[:-2] != b[:-2]:
        return "batch axes differ"
    return ""


def _left(state: Lowering, x: Quantized, node: ir.Node) -> Tensor | None:
    """(groups, M, K), of which whole groups of elements may be read."""
    value = state.lazy(x.integers)
    if isinstance(value, Leaf):
        tensor = value.tensor
        grouped = _grouped(tensor)
        aligned = tensor.shape[-1] % _GROUP == 0 and tensor.strides[-1] == 1
        if grouped is not None and aligned and tensor.place != "input":
            return grouped
    return _grouped(stored_rows(state, value, node.name or "rows"))


def _right(state: Lowering, w: Quantized) -> Tensor | None:
    """(groups, K, N) with any strides."""
    return _grouped(state.tensor(state.lazy(w.integers), w.integers.name or "columns"))


def _grouped(tensor: Tensor) -> Tensor | None:
    """Batch axes as one, where matrices lie the same distance apart; None where they do not."""
    axes = [(n, s) for n, s in zip(tensor.shape[:-2], tensor.strides[:-2], strict=True) if n != 1]
    if any(s != n * t for (_, s), (n, t) in pairwise(axes)):
        return None
    groups, apart = prod(n for n, _ in axes), axes[-1][1] if axes else 0
    return tensor.view((groups, *tensor.shape[-2:]), (apart, *tensor.strides[-2:]))


def _shifts(zero_point: int) -> tuple[int, ...]:
    """-zero point as values that fit int8."""
    if zero_point == 0:
        return ()
    return (64, 64) if zero_point == -128 else (-zero_point,)


def _lower(state: Lowering, node: ir.Node, x: Quantized, w: Quantized, left: Tensor, right: Tensor) -> None:
    shape, name = filled_shape(node.outputs[0], describe(node)), node.name or "matmul"
    groups, rows, depth = left.shape
    columns = right.shape[2]
    require_equal(node, "inner sizes", depth, right.shape[1])
    require_equal(node, "output sizes", (rows, columns), shape[-2:])
    dot = integer_dot(state.isa, x.dtype, (-128, 127))
    shifts = _shifts(int(w.zero_point.reshape(-1)[0]) - (128 if w.dtype == "uint8" else 0))
    zero = int(dot.zero_point(int(x.zero_point.reshape(-1)[0])))
    taps = ((1 + len(shifts), 0),) if shifts else ()
    reach = Reach((1, rows, 1), (0, left.strides[1], 0), taps, depth, groups, left.strides[0])
    strips, steps = -(-columns // dot.lanes), (1 + len(shifts)) * -(-depth // dot.depth)
    tile = best_integer_tile(dot, (rows, 1), strips, steps)
    panels = state.new_tensor(f"{name}.panels", "int8", (groups * strips * steps * dot.lanes * dot.depth,))
    none = np.zeros(groups * strips * dot.lanes, np.int32)
    packed = None if zero == 0 else state.new_tensor(f"{name}.bias", "int32", none.shape)
    state.steps.append(PackColumns(right, panels, packed, dot, tile[2], shifts, zero))
    bias = state.pool.add(f"{name}.bias", none) if packed is None else packed
    strides = _strides(shape, groups)
    epilogue = grow_epilogue(state, node.outputs[0], shape, lambda t: t.size == 1, strides)
    scale = float(x.scale.reshape(-1)[0]) * float(w.scale.reshape(-1)[0])
    outputs = groups * columns
    sums = Sums(np.full(outputs, scale), None, np.full(outputs, 255.0 * 255.0 * depth))
    finish = finish_of(state, name, epilogue.tree, sums, lambda row: _packed(row, groups, dot))
    out = state.new_tensor(epilogue.value.name or name, epilogue.tree.dtype, shape, strides)
    kernel = WidenedProduct if widens(reach, dot.reads) else IntegerProduct
    out_steps = (0, outputs, 0)
    state.steps.append(kernel(left, panels, bias, out, reach, out_steps, columns, columns, tile, dot, finish))
    for quantized in (x, w, *epilogue.operands):
        quantized.take(state)
    state.integer_nodes.update(
        n for n in epilogue.nodes if n.op_type in ("QuantizeLinear", "DequantizeLinear")
    )
    state.absorbed.update(epilogue.nodes)
    state.define(epilogue.value, Leaf(out))


def _strides(shape: tuple[int, ...], groups: int) -> tuple[int, ...]:
    """Rows of all matrices side by side, as heads are joined."""
    apart, found = shape[-1], list[int]()
    for extent in reversed(shape[:-2]):
        found.insert(0, apart)
        apart *= extent
    return (*found, groups * shape[-1], 1)


def _packed(row: np.ndarray[Any, Any], groups: int, dot: Dot) -> np.ndarray[Any, Any]:
    """One value per output as the kernel reads them: whole vectors for each group."""
    columns = row.size // groups
    full = np.zeros((groups, -(-columns // dot.lanes) * dot.lanes), row.dtype)
    full[:, :columns] = row.reshape(groups, columns)
    return full
