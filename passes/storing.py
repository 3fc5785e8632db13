"""A layer's weight is replaced by calls of the functions that decode it.

    Conv(x, W)            W float32 [O, I, kh, kw]
    Conv(x, PaletteDecode(indices, lut))

A part may be stored by another format: `Stored("block-sparse", {"values": Stored("palette", ...), ...})` is
`BlockSparseDecode(PaletteDecode(...), mask, shape)`. Formats store outputs first: a MatMul weight [K, N] is
stored as its transpose and a Transpose follows the decoding; a Gemm weight as for transB = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gossamer.kernels.formats import DOMAIN, find_format
from gossamer.kernels.formats.base import Array

from .layers import Layer

__all__ = ["LEAST_OPSET", "Stored", "decoding_call", "refusal", "store_weight"]

LEAST_OPSET = 18
"""The bodies of formats' functions need BitwiseAnd."""


@dataclass(frozen=True)
class Stored:
    """A weight as a format stores it: arrays by part name, or parts that are stored in turn."""

    format: str
    parts: Mapping[str, Array | Stored]

    def decode(self) -> Array:
        """The array that is stored: outputs first."""
        parts = {k: p.decode() if isinstance(p, Stored) else p for k, p in self.parts.items()}
        return find_format(self.format).decode(parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(part.nbytes for part in self.parts.values())

    def bits_per_weight(self, count: int) -> float:
        """Bits really stored for each of `count` weights."""
        return 8 * self.nbytes / max(1, count)


def refusal(layer: Layer, model: ir.Model) -> str:
    """Why the weight of `layer` cannot be stored in a format; empty if it can."""
    opset = model.opset_imports.get("", 0)
    if opset < LEAST_OPSET:
        return f"the model is at opset {opset}, decoding needs {LEAST_OPSET}"
    if text := layer.reason_not_constant():
        return text
    tensor = layer.weight.const_value
    assert tensor is not None
    if tensor.dtype != ir.DataType.FLOAT or tensor.size == 0:
        return f"its weights are {tensor.dtype.name} {list(tensor.shape)}, not float32"
    if len(_orientations(layer)) > 1:
        return "its weights are read in both orientations"
    return ""


def store_weight(model: ir.Model, layer: Layer, stored: Stored, shape: tuple[int, ...]) -> None:
    """Replace the weight by calls that decode `stored` to `shape` (outputs first), for all its readers."""
    graph, old = model.graph, layer.weight
    name = old.name or "weight"
    readers = [(use.node, use.idx) for use in old.uses()]
    graph.initializers.pop(name)
    nodes: list[ir.Node] = []
    value = decoded = _call(model, stored, name, nodes)
    _typed(decoded, name, shape)
    if not layer.rows_are_outputs:
        if all(node.op_type == "Gemm" for node, _ in readers):
            for node, _ in readers:
                node.attributes.add(ir.AttrInt64("transB", 1))
        else:
            perm = ir.AttrInt64s("perm", [1, 0])
            turn = ir.Node("", "Transpose", [decoded], [perm], name=f"{name}.transpose")
            decoded.name = f"{name}.rows"
            value = _typed(turn.outputs[0], name, shape[::-1])
            nodes.append(turn)
    for node, index in readers:
        node.replace_input_with(index, value)
    # They depend on initializers only, so the start of the graph precedes every reader, inside graphs too.
    graph.insert_before(graph[0], nodes)


def decoding_call(
    model: ir.Model,
    stored: Stored,
    name: str,
    shape: tuple[int, ...],
    dtype: ir.DataType,
    nodes: list[ir.Node],
) -> ir.Value:
    """The value called `name` that decodes `stored`; the calls it takes are appended to `nodes`."""
    value = _call(model, stored, name, nodes)
    value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(dtype)
    return value


def _call(model: ir.Model, stored: Stored, name: str, nodes: list[ir.Node]) -> ir.Value:
    """The decoded value; its call, and those of its parts before it, are appended to `nodes`."""
    kind = find_format(stored.format)
    inputs = list[ir.Value | None]()
    for part in kind.parts:
        given = stored.parts.get(part)
        if given is None:
            inputs.append(None)  # an optional part
        elif isinstance(given, Stored):
            inputs.append(_call(model, given, f"{name}.{part}", nodes))
        else:
            inputs.append(_initializer(model.graph, f"{name}.{part}", given))
    call = ir.Node(DOMAIN, kind.operator, inputs, name=f"{name}.decode", num_outputs=1)
    call.outputs[0].name = name
    function = kind.function(model.opset_imports.get("", 0))
    model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = 1
    nodes.append(call)
    return call.outputs[0]


def _orientations(layer: Layer) -> set[bool]:
    """The orientations in which the readers of a weight take it."""
    readers = {use.node for use in layer.weight.uses()}
    return {
        node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1)
        for node in readers
    }


def _typed(value: ir.Value, name: str, shape: tuple[int, ...]) -> ir.Value:
    value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return value


def _initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
