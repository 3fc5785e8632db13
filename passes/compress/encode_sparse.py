"""Weights with many zeros are stored as the blocks that are not zero.

    Conv(x, W)            W float32 [O, I, 1, 1], 80 % zeros
    Conv(x, BlockSparseDecode(W.values, W.mask, W.shape))

Exact: the decoded weight has every value of the old one. A MatMul weight [K, N] is stored as its transpose,
since blocks run along outputs, and a Transpose follows the decoding; a Gemm weight is stored as for transB
= 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats import DOMAIN, find_format
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.block_sparse import block_grid, block_survivors

from ..base import change, refuse
from ..layers import Layer, LayerPass, weighted_layers
from ..report import PassReport

__all__ = ["EncodeSparse"]

_CANDIDATES = ((16, 1), (8, 1), (4, 1), (2, 1), (1, 1))
"""Blocks that kernels exist for, widest first: of equal sizes the wider one is faster."""
_LEAST_OPSET = 18
"""The function's body needs BitwiseAnd."""


@dataclass(frozen=True, kw_only=True)
class EncodeSparse(LayerPass):
    """Store weights in the block-sparse format where that is smaller, else leave them dense.

    `block` is `auto` (the smallest of 16x1, 8x1, 4x1, 2x1 and 1x1) or RxC. `min_saving` is the share of its
    bytes that a weight must save.
    """

    block: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]?x[1-9][0-9]?)$")] = "auto"
    min_saving: Annotated[float, Field(ge=0, lt=1)] = 0.05
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip", "block", "min_saving")

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Encode in place, one weight at a time; each layer is changed, or refused with a reason."""
        layers = weighted_layers(model)
        self.check_names(layers)
        report.matched = len(layers)
        opset = model.opset_imports.get("", 0)
        done: set[ir.Value] = set()
        for layer in layers:
            settings = self.at(layer.node)
            if layer.weight in done:
                change(report, layer.node, "shares weights that are encoded")
            elif reason := settings._refusal(layer, opset):
                refuse(report, layer.node, reason)
            else:
                settings._encode(model, layer, report)
                done.add(layer.weight)
        if done:
            function = find_format("block-sparse").function(opset)
            model.functions[function.identifier()] = function
            model.opset_imports[DOMAIN] = 1

    def _refusal(self, layer: Layer, opset: int) -> str:
        tensor = layer.weight.const_value
        if self.skip:
            return "the recipe skips it"
        if opset < _LEAST_OPSET:
            return f"the model is at opset {opset}, decoding needs {_LEAST_OPSET}"
        if text := layer.reason_not_constant():
            return text
        assert tensor is not None
        if tensor.dtype != ir.DataType.FLOAT or tensor.size == 0:
            return f"its weights are {tensor.dtype.name} {list(tensor.shape)}, not float32"
        if len(_orientations(layer)) > 1:
            return "its weights are read in both orientations"
        weight = layer.outputs_first(tensor.numpy())
        stored = _stored_bytes(weight, *self._best_block(weight))
        if stored >= tensor.nbytes * (1 - self.min_saving):
            zeros = 1 - np.count_nonzero(weight) / weight.size
            return f"at {zeros:.1%} zeros it would take {stored} bytes, dense takes {tensor.nbytes}"
        return ""

    def _best_block(self, weight: Array) -> tuple[int, int]:
        if self.block != "auto":
            rows, columns = map(int, self.block.split("x"))
            return rows, columns
        return min(_CANDIDATES, key=lambda block: _stored_bytes(weight, *block))

    def _encode(self, model: ir.Model, layer: Layer, report: PassReport) -> None:
        """Replace the weight by a call."""
        tensor = layer.weight.const_value
        assert tensor is not None
        weight = np.ascontiguousarray(layer.outputs_first(tensor.numpy()))
        rows, columns = self._best_block(weight)
        stored = find_format("block-sparse")
        parts = stored.encode(weight, rows=rows, columns=columns)
        bits = stored.bits_per_weight(parts, weight.shape)
        detail = f"{rows}x{columns} blocks, {len(parts['values'])} kept, {bits:.2f} bits per weight"
        change(report, layer.node, detail, tensor.nbytes, stored.stored_bytes(parts))
        _replace_weight(model, layer, parts, weight.shape)


def _stored_bytes(weight: Array, rows: int, columns: int) -> int:
    """What `encode` would store, counted without packing."""
    blocks = prod(block_grid(weight.shape, rows, columns))
    values = 4 * rows * columns * max(1, block_survivors(weight, rows, columns))
    return values + -(-blocks // 8) + 8 * weight.ndim


def _orientations(layer: Layer) -> set[bool]:
    """The orientations in which the readers of a weight take it."""
    readers = {use.node for use in layer.weight.uses()}
    return {
        node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1)
        for node in readers
    }


def _replace_weight(model: ir.Model, layer: Layer, parts: dict[str, Array], shape: tuple[int, ...]) -> None:
    graph, old, stored = model.graph, layer.weight, find_format("block-sparse")
    name = old.name or "weight"
    readers = [(use.node, use.idx) for use in old.uses()]
    graph.initializers.pop(name)
    call = ir.Node(
        DOMAIN,
        stored.operator,
        [_initializer(graph, f"{name}.{part}", parts[part]) for part in stored.parts],
        name=f"{name}.decode",
        num_outputs=1,
    )
    decoded = _typed(call.outputs[0], name, shape)
    nodes, value = [call], decoded
    if not layer.rows_are_outputs:
        if all(node.op_type == "Gemm" for node, _ in readers):
            for node, _ in readers:
                node.attributes.add(ir.AttrInt64("transB", 1))
        else:
            turn = ir.Node(
                "", "Transpose", [decoded], [ir.AttrInt64s("perm", [1, 0])], name=f"{name}.transpose"
            )
            decoded.name = f"{name}.rows"
            value = _typed(turn.outputs[0], name, shape[::-1])
            nodes.append(turn)
    for node, index in readers:
        node.replace_input_with(index, value)
    # They depend on initializers only, so the start of the graph precedes every reader, inside graphs too.
    graph.insert_before(graph[0], nodes)


def _typed(value: ir.Value, name: str, shape: tuple[int, ...]) -> ir.Value:
    value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return value


def _initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
