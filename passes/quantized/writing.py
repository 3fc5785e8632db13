"""Nodes that take the place of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import ModelError

from ..low_rank.constants import add_constant, drop_unused
from ..storing import Stored, decoding_call
from .checking import Linear, check_linear

__all__ = ["Refused", "Writer", "constant_of", "drop_unread"]

Attributes = Mapping[str, Any]


class Refused(Exception):  # noqa: N818  # not an error: the node stays as it is, and the report says why
    """Why a node is left as it is."""


def constant_of(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The array of an initializer; None for anything else, and for what a caller may replace."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


class Writer:
    """Writes nodes in front of `node`, which they replace; `model` takes the functions of formats."""

    def __init__(self, node: ir.Node, model: ir.Model | None = None) -> None:
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        self.node, self.graph, self.model = node, graph, model
        self._nodes = list[ir.Node]()
        self._constants = list[ir.Value]()

    def input(self, index: int) -> ir.Value | None:
        """The node's input at `index`; None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def needed(self, index: int) -> ir.Value:
        """The node's input at `index`. Raises ModelError where it is missing."""
        value = self.input(index)
        if value is None:
            raise ModelError(
                "an input is missing",
                where=f"{self.node.op_type} node {self.node.name!r}",
                expected=f"an input at index {index}",
                got=f"{len(self.node.inputs)} inputs",
            )
        return value

    def attributes(self, *left_out: str) -> dict[str, ir.Attr]:
        """The node's attributes but for some."""
        return {name: value for name, value in self.node.attributes.items() if name not in left_out}

    def constant(self, label: str, array: np.ndarray[Any, Any]) -> ir.Value:
        """A new initializer, named after the node."""
        value = add_constant(self.graph, f"{self.node.name}_{label}", array)
        self._constants.append(value)
        return value

    def add(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        *,
        name: str = "",
        outputs: int = 1,
    ) -> ir.Value:
        """A new node's first output. The one that stands for the node itself is given its `name`."""
        given = [
            value if isinstance(value, ir.Attr) else ir.convenience.convert_attribute(key, value)
            for key, value in (attributes or {}).items()
        ]
        label = name or f"{self.node.name}_{operator}"
        node = ir.Node("", operator, list(inputs), given, num_outputs=outputs, name=label)
        for index, value in enumerate(node.outputs):
            value.name = f"{label}_output{index or ''}"
        self.graph.insert_before(self.node, node)
        self._nodes.append(node)
        return node.outputs[0]

    def dequantize(
        self,
        x: ir.Value,
        scale: ir.Value,
        zero: ir.Value | None,
        axis: int = 1,
        block_size: int = 0,
        *,
        name: str = "",
    ) -> ir.Value:
        """(x - zero) * scale; one scale, one for each index of `axis`, or one for each block of it."""
        return self._linear("DequantizeLinear", (x, scale, zero), axis, block_size, name)

    def quantize(
        self,
        x: ir.Value,
        scale: ir.Value,
        zero: ir.Value | None,
        axis: int = 1,
        block_size: int = 0,
        *,
        name: str = "",
    ) -> ir.Value:
        """saturate(round(x / scale) + zero)."""
        return self._linear("QuantizeLinear", (x, scale, zero), axis, block_size, name)

    def _linear(
        self,
        operator: str,
        operands: tuple[ir.Value, ir.Value, ir.Value | None],
        axis: int,
        block_size: int,
        name: str,
    ) -> ir.Value:
        x, scale, zero = operands
        integers = x.dtype if operator == "DequantizeLinear" else zero.dtype if zero is not None else None
        check_linear(Linear(self.node, x, scale, zero, integers, axis, block_size))
        attributes = {"axis": axis, **({"block_size": block_size} if block_size else {})}
        if not block_size:
            scale = self._scalar(scale)
            zero = None if zero is None else self._scalar(zero)
            if _is_scalar(scale):
                attributes = {}
                zero = None if zero is None else self._first(zero)
        inputs = [x, scale] if zero is None else [x, scale, zero]
        result = self.add(operator, inputs, attributes, name=name)
        result.shape = x.shape
        kind = scale.dtype if operator == "DequantizeLinear" else (zero.dtype if zero else ir.DataType.UINT8)
        result.type = None if kind is None else ir.TensorType(kind)
        return result

    def _scalar(self, value: ir.Value) -> ir.Value:
        """A constant of one element as a scalar, since operators differ in which of the two they take."""
        array = constant_of(value)
        if array is None or array.ndim == 0 or array.size != 1:
            return value
        return self.constant("scalar", array.reshape(()))

    def _first(self, zero: ir.Value) -> ir.Value:
        """One zero point for one scale: several equal ones are one."""
        array = constant_of(zero)
        if array is None or array.ndim == 0:
            return zero
        if not (array == array.flat[0]).all():
            raise Refused("it has one scale, and zero points that differ")
        return self.constant("zero", np.asarray(array.flat[0]))

    def decode(self, stored: Stored, shape: tuple[int, ...]) -> ir.Value:
        """The float32 weight that `stored` holds."""
        assert self.model is not None
        nodes = list[ir.Node]()
        value = decoding_call(self.model, stored, f"{self.node.name}_weight", shape, ir.DataType.FLOAT, nodes)
        self.graph.insert_before(self.node, nodes)
        self._nodes.extend(nodes)
        return value

    def undo(self) -> None:
        """Takes away what was written so far."""
        for node in reversed(self._nodes):
            self.graph.remove(node, safe=True)
        for value in self._constants:
            drop_unused(self.graph, value)

    def give(self, *values: ir.Value | None) -> None:
        """The node's outputs become `values`, under their old names; the node goes. None: nobody reads it."""
        for old, value in zip(self.node.outputs, values, strict=False):
            if value is None:
                continue
            new = value
            if new.producer() is None or new.is_graph_output():
                new = self.add("Identity", [new]) if old.is_graph_output() else new
            new.type = new.type or old.type
            new.shape = old.shape if new.shape is None else new.shape
            name = old.name
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            if new.producer() is not None and not (new is value and new.is_graph_output() and not name):
                old.name, new.name = None, name
        self.graph.remove(self.node, safe=True)


def _is_scalar(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) == 0


def drop_unread(node: ir.Node) -> None:
    """Remove a node whose results nothing reads any more."""
    if node.graph is not None and not any(v.uses() or v.is_graph_output() for v in node.outputs):
        node.graph.remove(node, safe=True)
