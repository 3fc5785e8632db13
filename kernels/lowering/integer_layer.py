"""What convolutions and products with int8 weights do alike: reading the graph, packing, the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ..cpu.integer_product import Reach
from ..cpu.tensor import Tensor
from .choice import Choice
from .fusion import Epilogue
from .halved_weights import panels_of
from .integer_tree import Sums, finish_of
from .quantized import Quantized, quantized_of
from .state import Lowering

__all__ = ["IntegerLayer", "append_product", "integer_layer"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class IntegerLayer:
    """A Conv, Gemm or MatMul whose operands come from integers.

    `weights` (outputs first) are int32, less their zero points; `scale` (outputs,) float64 is what a sum of
    products is worth; `bias` (outputs,) is added to the sums, `addend` to what they are worth, or None.
    """

    node: ir.Node
    x: Quantized
    w: Quantized
    weights: Array
    scale: Array
    bias: Array
    addend: Array | None
    taken: tuple[Quantized, ...]

    @property
    def zero_point(self) -> int:
        return int(self.x.zero_point.reshape(-1)[0])

    def take(self, state: Lowering, epilogue: Epilogue) -> None:
        """Notes which Q and DQ nodes this layer's kernel computes."""
        for quantized in (self.x, self.w, *self.taken, *epilogue.operands):
            quantized.take(state)
        state.integer_nodes.update(
            n for n in epilogue.nodes if n.op_type in ("QuantizeLinear", "DequantizeLinear")
        )


def integer_layer(
    state: Lowering, node: ir.Node, outputs_axis: int, bias: ir.Value | None, factor: float = 1.0
) -> IntegerLayer | None:
    """The node as an integer layer; None where it is not one, with the reason noted.

    `outputs_axis` is the weight's; `factor` multiplies the product, but not the bias.
    """
    x, w = quantized_of(state, node.inputs[0]), quantized_of(state, node.inputs[1])
    if x is None:
        return None
    reason = _refusal(state, x, w, outputs_axis)
    integers = state.constant(w.integers) if w is not None else None
    if reason or w is None or integers is None:
        state.float_reasons[x.node] = reason or "the weight is no quantised constant"
        return None
    if np.issubdtype(integers.dtype, np.unsignedinteger) or np.any(w.zero_point):
        shape = [-1 if axis == outputs_axis % integers.ndim else 1 for axis in range(integers.ndim)]
        weights = integers.astype(np.int32) - w.zero_point.reshape(shape if w.zero_point.size > 1 else ())
    else:
        weights = integers.astype(np.int32)
    weights = np.moveaxis(weights, outputs_axis, 0)
    outputs = len(weights)
    scale = np.broadcast_to(w.scale.reshape(-1).astype(np.float64), outputs) * (
        float(x.scale.reshape(-1)[0]) * factor
    )
    sums, addend, taken = _bias(state, bias, scale)
    return IntegerLayer(node, x, w, weights, scale, sums, addend, taken)


def _refusal(state: Lowering, x: Quantized, w: Quantized | None, axis: int) -> str:
    """Why no integer kernel computes the layer, in words; empty where one may."""
    if x.dtype not in ("int8", "uint8") or not x.per_tensor:
        return f"activations are {x.dtype}, {'per tensor' if x.per_tensor else 'with scales of their own'}"
    if w is None:
        return "the weight is not quantised"
    integers = state.constant(w.integers)
    if integers is None:
        return "the weight is no constant"
    if w.dtype not in ("int8", "uint8", "int4", "uint4"):
        return f"the weight is {w.dtype}"
    if not w.per_tensor and (w.block_size or w.axis != axis % integers.ndim):
        return "the weight's scales do not belong to outputs"
    return ""


def _bias(
    state: Lowering, value: ir.Value | None, scale: Array
) -> tuple[Array, Array | None, tuple[Quantized, ...]]:
    """(in units of the sums, or else as floats that are added behind them, what was dequantised)."""
    none = np.zeros(len(scale), np.int64)
    if value is None:
        return none, None, ()
    quantized = quantized_of(state, value)
    integers = state.constant(quantized.integers) if quantized is not None else None
    if quantized is not None and integers is not None:
        factors = np.broadcast_to(quantized.scale.reshape(-1).astype(np.float64), len(scale))
        if not quantized.zero_point.any() and np.allclose(factors, scale, rtol=1e-5, atol=0):
            sums = np.broadcast_to(integers.reshape(-1).astype(np.int64), len(scale))
            return sums, None, (quantized,)
    array = state.constant(value)
    assert array is not None
    taken = () if quantized is None else (quantized,)
    return none, np.broadcast_to(array.reshape(-1).astype(np.float64), len(scale)), taken


def append_product(
    state: Lowering,
    layer: IntegerLayer,
    source: Tensor,
    reach: Reach,
    matrix: Array,
    out: Tensor,
    out_steps: tuple[int, int, int],
    room: int,
    epilogue: Epilogue,
) -> Choice:
    """Adds the kernel; `matrix` (groups, outputs of one, taps, run) holds the weights of every tap's run."""
    name = layer.node.name or layer.node.op_type
    panels = panels_of(state.isa, layer.x.dtype, reach, matrix)
    corrected = layer.bias - panels.dot.zero_point(layer.zero_point) * panels.totals
    bias = state.pool.add(f"{name}.bias", panels.packed(corrected).astype(np.int32))
    sums = Sums(layer.scale, layer.addend, panels.most + np.abs(layer.bias))
    finish = finish_of(state, name, epilogue.tree, sums, panels.packed)
    return panels.append(state, name, source, bias, out, out_steps, room, finish, layer.w.dtype)
