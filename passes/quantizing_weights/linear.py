"""A layer's weight is replaced by a standard DequantizeLinear of integers or float8.

    MatMul(x, W)    W float32 [K, N]
    MatMul(x, DequantizeLinear(q [K, N], scale [K / G, N], zero [K / G, N], axis = 0, block_size = G))

Weights keep their layer's orientation, so that onnxruntime makes the integer product of its own, MatMulNBits,
of it. Groups of a convolution run through channels x taps: integers are stored as [O, K] and a Reshape
follows. Scales that are float16 numbers are stored as such, and a Cast follows.

Source: ONNX operator DequantizeLinear, opset 21.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from gossamer.kernels.code_groups import CodeForm, narrowed
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.dual_grain import DualGrain, pack_dual_grain

from ..layers import Layer
from ..storing import Stored, decoding_call
from .grids import Grid, IntegerGrid, MinifloatGrid
from .grouping import Quantized

__all__ = ["LEAST_OPSET", "Linear", "dual_grain_parts", "linear_parts", "store_linear"]

LEAST_OPSET = 21
"""DequantizeLinear takes blocks and integers of 4 bits."""


@dataclass(frozen=True)
class Linear:
    """Inputs and attributes of a DequantizeLinear; its result has the `shape` of the weight.

    `block` is 0 where the scale has one number for each output; without `codes` they are decoded.
    """

    codes: ir.TensorProtocol | None
    scale: ir.TensorProtocol
    zero: ir.TensorProtocol | None
    axis: int
    block: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in (self.codes, self.scale, self.zero) if tensor is not None)


def linear_parts(layer: Layer, found: Quantized) -> Linear:
    """How the weight of `layer` is stored."""
    whole = found.ranges.scale.shape[1] == 1
    dtype = _code_type(found.grid)
    codes = found.codes.astype(np.float32).astype(dtype)
    if whole:
        codes = codes.reshape(found.shape)

    def placed(values: Array) -> ir.TensorProtocol:
        array = values[:, 0] if whole else layer.outputs_first(values)
        return ir.Tensor(np.ascontiguousarray(array))

    has_zero = isinstance(found.grid, IntegerGrid) and not found.grid.symmetric
    outputs = 0 if layer.rows_are_outputs else 1
    return Linear(
        ir.Tensor(np.ascontiguousarray(layer.outputs_first(codes))),
        placed(narrowed(found.ranges.scale)),
        placed(found.ranges.zero.astype(np.float32).astype(dtype)) if has_zero else None,
        outputs if whole else 1 - outputs,
        0 if whole else found.group,
        found.shape if layer.rows_are_outputs else found.shape[::-1],
    )


def dual_grain_parts(layer: Layer, found: Quantized) -> tuple[Stored, Linear]:
    """How the weight of `layer` is stored as int4 that decodes to int8, and what dequantises that.

    The codes of the latter are to be decoded from the former, outputs first.
    """
    assert found.channel is not None
    whole = np.rint(found.ranges.scale / found.channel).astype(np.int8)
    codes, zero = found.codes.astype(np.uint8), found.ranges.zero.astype(np.uint8)
    form = CodeForm(found.shape, 4, found.group)
    outputs = 0 if layer.rows_are_outputs else 1
    return Stored("dual-grain", pack_dual_grain(DualGrain(form, codes, whole, zero))), Linear(
        None,
        ir.Tensor(narrowed(found.channel[:, 0])),
        None,
        outputs,
        0,
        found.shape if layer.rows_are_outputs else found.shape[::-1],
    )


def store_linear(model: ir.Model, layer: Layer, parts: Linear, stored: Stored | None = None) -> None:
    """Replace the weight by a DequantizeLinear, for all its readers; codes may be `stored` by a format."""
    graph, old = model.graph, layer.weight
    name = old.name or "weight"
    readers = [(use.node, use.idx) for use in old.uses()]
    graph.initializers.pop(name)
    nodes = list[ir.Node]()
    if parts.codes is None:
        assert stored is not None
        shape = parts.shape if layer.rows_are_outputs else parts.shape[::-1]
        codes = decoding_call(model, stored, f"{name}.quantized", shape, ir.DataType.INT8, nodes)
        if not layer.rows_are_outputs:
            perm = ir.AttrInt64s("perm", [1, 0])
            nodes.append(ir.Node("", "Transpose", [codes], [perm], name=f"{name}.transpose"))
            codes.name = f"{name}.quantized.rows"
            codes = _typed(nodes[-1].outputs[0], f"{name}.quantized", parts.shape, ir.DataType.INT8)
    else:
        codes = _initializer(graph, f"{name}.quantized", parts.codes)
    value = _dequantized(graph, name, codes, parts, nodes)
    for node, index in readers:
        node.replace_input_with(index, value)
    # They depend on initializers only, so the start of the graph precedes every reader, inside graphs too.
    graph.insert_before(graph[0], nodes)


def _dequantized(
    graph: ir.Graph, name: str, codes: ir.Value, parts: Linear, nodes: list[ir.Node]
) -> ir.Value:
    """The weight; the nodes that compute it from `codes` are appended to `nodes`."""
    scale = _initializer(graph, f"{name}.scale", parts.scale)
    if parts.scale.dtype == ir.DataType.FLOAT16:
        to = ir.AttrInt64("to", int(ir.DataType.FLOAT))
        nodes.append(ir.Node("", "Cast", [scale], [to], name=f"{name}.scale.cast"))
        scale = _typed(nodes[-1].outputs[0], f"{name}.scale.float", tuple(parts.scale.shape.numpy()))
    inputs: list[ir.Value | None] = [codes, scale]
    if parts.zero is not None:
        inputs.append(_initializer(graph, f"{name}.zero", parts.zero))
    attributes = [ir.AttrInt64("axis", parts.axis)]
    if parts.block:
        attributes.append(ir.AttrInt64("block_size", parts.block))
    nodes.append(ir.Node("", "DequantizeLinear", inputs, attributes, name=f"{name}.dequantize"))
    assert codes.shape is not None
    if tuple(codes.shape.numpy()) != parts.shape:
        flat = _typed(nodes[-1].outputs[0], f"{name}.rows", tuple(codes.shape.numpy()))
        shape = _initializer(graph, f"{name}.shape", ir.Tensor(np.array(parts.shape, np.int64)))
        nodes.append(ir.Node("", "Reshape", [flat, shape], name=f"{name}.reshape"))
    return _typed(nodes[-1].outputs[0], name, parts.shape)


def _code_type(grid: Grid) -> np.dtype[Any]:
    """int4, uint4, int8, uint8, or a float8."""
    if isinstance(grid, MinifloatGrid):
        name = grid.dtype
    else:
        assert isinstance(grid, IntegerGrid)
        assert grid.width in (4, 8)
        name = f"{'' if grid.symmetric else 'u'}int{grid.width}"
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name, name))
    return found


def _typed(
    value: ir.Value, name: str, shape: tuple[int, ...], dtype: ir.DataType = ir.DataType.FLOAT
) -> ir.Value:
    value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(dtype)
    return value


def _initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    tensor.name = name
    value = ir.Value(
        name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
