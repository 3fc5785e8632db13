"""Integer products whose scale and zero point are known only at run time.

    sums[m] = Σ_k x[k] · w[m, k] - zero point · Σ_k w[m, k]          y[m] = tree(sums[m] · scale)

Exporters write the product, Cast to float32, Mul by the scales, and the layer's own nodes. The kernel starts
its sums from -zero point · Σ w and multiplies by a row of scales; small kernels make both before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ..cpu.epilogue import Accumulator
from ..cpu.integer_epilogue import Finish
from ..cpu.integer_product import Reach
from ..cpu.integer_sums import PlainSums
from ..cpu.lazy import Fill, Lazy, Leaf
from ..cpu.tensor import Tensor, contiguous
from .attributes import describe, integer
from .fusion import Epilogue, grow_epilogue
from .halved_weights import panels_of
from .integer_panels import Panels
from .integer_rows import fits_rows, row_pitch, rows_apart, stored_rows
from .integer_tree import finish_at_run_time
from .report import report_layer
from .scopes import read_elsewhere
from .state import Lowering, filled_shape

__all__ = ["ScaledSums", "append_dynamic", "dynamic_product", "scaled_sums", "zero_point_bias"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class ScaledSums:
    """The float32 `value` that `nodes` make of sums: these times a constant per output and `factors`."""

    value: ir.Value
    outputs: int
    nodes: list[ir.Node]
    constant: Array = field(default_factory=lambda: np.ones((), np.float32))
    factors: list[Lazy] = field(default_factory=list)  # single values

    def row(self, state: Lowering, name: str, panels: Panels) -> Tensor:
        """One scale per output as the kernel reads them."""
        full = panels.packed(np.broadcast_to(self.constant, self.outputs).astype(np.float32))
        found: Lazy = Leaf(state.pool.add(f"{name}.scale", full.reshape(-1)))
        for factor in self.factors:
            found = state.elementwise("Mul", [found, factor], "float32")
        return state.tensor(found, f"{name}.scale")

    def multiply(self, state: Lowering, value: ir.Value, after: int) -> bool:
        """Takes `value` as a factor, if it is a product of constants per output and of single values.

        Outputs lie along the axis that has `after` axes behind it.
        """
        constant, factors = self.constant, []
        for part in _parts(state, value):
            array = state.constant(part)
            if array is not None and _per_output(array, self.outputs, after):
                constant = constant * array.reshape(-1 if array.size > 1 else ()).astype(np.float32)
            elif array is None and part in state.values and state.lazy(part).shape in ((), (1,)):
                factors.append(_single(state, state.lazy(part)))
            else:
                return False
        self.constant, self.factors = constant, self.factors + factors
        return True


def _single(state: Lowering, value: Lazy) -> Lazy:
    """A value of one element without axes."""
    if isinstance(value, Fill):
        return Fill(value.value, value.dtype)
    return Leaf(state.dense(value).view((), contiguous(())))


def _parts(state: Lowering, value: ir.Value) -> list[ir.Value]:
    """The factors that `value` is the product of."""
    node = value.producer()
    if node is None or node.op_type != "Mul" or state.constant(value) is not None:
        return [value]
    return [part for v in node.inputs if v is not None for part in _parts(state, v)]


def _per_output(array: Array, outputs: int, after: int) -> bool:
    if array.dtype != np.float32:
        return False
    axis = array.ndim - after - 1
    return array.size == 1 or (axis >= 0 and array.size == array.shape[axis] == outputs)


def scaled_sums(state: Lowering, sums: ir.Value, outputs: int, after: int) -> ScaledSums | None:
    """What follows integer sums up to their last scale; None where they are read as integers."""
    cast = _reader(sums, "Cast")
    if cast is None or integer(cast, "to", 0) != ir.DataType.FLOAT:
        return None
    found = ScaledSums(cast.outputs[0], outputs, [cast])
    while (product := _reader(found.value, "Mul")) is not None:
        factor = next((v for v in product.inputs if v is not found.value), None)
        shape, own = product.outputs[0].shape, found.value.shape
        if factor is None or shape is None or own is None or tuple(shape) != tuple(own):
            break
        if not found.multiply(state, factor, after):
            break
        found.nodes.append(product)
        found.value = product.outputs[0]
    return found


def _reader(value: ir.Value, operator: str) -> ir.Node | None:
    """The one node that reads the value, if it is of this operator."""
    readers = [use.node for use in value.uses()]
    if read_elsewhere(value) or len(readers) != 1 or readers[0].op_type != operator:
        return None
    return readers[0]


def zero_point_bias(state: Lowering, name: str, panels: Panels, zero_point: Lazy | None) -> Tensor:
    """What sums start from: - zero point · Σ w, packed."""
    dot = panels.dot
    base = -int(dot.zero_point(0)) * panels.totals
    found: Lazy = Leaf(state.pool.add(f"{name}.bias", panels.packed(base).astype(np.int32).reshape(-1)))
    if zero_point is None:
        return state.tensor(found)
    turned = panels.packed(-panels.totals).astype(np.int32).reshape(-1)
    wide = state.elementwise("Cast", [zero_point], "int32")
    product = state.elementwise("Mul", [Leaf(state.pool.add(f"{name}.totals", turned)), wide], "int32")
    if base.any():
        product = state.elementwise("Add", [product, found], "int32")
    return state.tensor(product, f"{name}.bias")


def dynamic_product(
    state: Lowering, node: ir.Node, source: Lazy, weights: Array, zero_point: Lazy | None
) -> None:
    """MatMulInteger of (…, M, K) integers and constant `weights` (N, K), less their own zero points.

    `zero_point` is a single value.
    """
    shape = filled_shape(node.outputs[0], describe(node))
    name, (outputs, depth) = node.name or "matmul", weights.shape
    rows = stored_rows(state, source, name)
    apart = rows.strides[-2] if len(rows.shape) > 1 else 0
    reach = Reach((1, prod(shape[:-1]), 1), (0, apart, 0), (), depth)
    panels = panels_of(state.isa, source.dtype, reach, weights[None, :, None, :])
    pitch = row_pitch(shape[-1])
    strides = rows_apart(shape, pitch)
    out, value = append_dynamic(
        state,
        node,
        panels,
        rows,
        zero_point,
        scaled_sums(state, node.outputs[0], outputs, 0),
        (shape, strides, (0, pitch, 0), shape[-1]),
        lambda tensor: fits_rows(tensor, shape, strides),
        np.ascontiguousarray(weights.T),
    )
    state.define(value, Leaf(out))


Place = tuple[tuple[int, ...], tuple[int, ...], tuple[int, int, int], int]


def append_dynamic(
    state: Lowering,
    node: ir.Node,
    panels: Panels,
    source: Tensor,
    zero_point: Lazy | None,
    sums: ScaledSums | None,
    place: Place,
    fits: Callable[[Tensor], bool],
    weights: Array,
) -> tuple[Tensor, ir.Value]:
    """Adds the kernel; its result and the value that it is.

    `place` is the result's shape and strides, the distances of its pixels, and the room of a group.
    """
    (shape, strides, steps, room), name = place, node.name or node.op_type
    value = node.outputs[0] if sums is None else sums.value
    epilogue = Epilogue(Accumulator(shape, "int32"), value)
    finish: Finish | PlainSums = PlainSums()
    if sums is not None:
        epilogue = grow_epilogue(state, value, shape, fits, strides)
        epilogue.nodes[:0] = sums.nodes
        finish = finish_at_run_time(epilogue.tree, sums.row(state, name, panels))
    bias = zero_point_bias(state, name, panels, zero_point)
    out = state.new_tensor(epilogue.value.name or name, epilogue.tree.dtype, shape, strides)
    choice = panels.append(state, name, source, bias, out, steps, room, finish, panels.dot.weight_dtype)
    state.absorbed.update(epilogue.nodes)
    for quantized in epilogue.operands:
        quantized.take(state)
    report_layer(state, node, weights, out, choice, epilogue)
    return out, epilogue.value
