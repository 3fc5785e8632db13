"""Operators whose kernels know float32 compute floats of 16 bits in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gossamer.kernels.lowering.registry import takes_any_type

from ..base import Pass, change
from ..naming import name_everything
from ..report import PassReport

__all__ = ["WidenFloats"]

_FLOAT32 = ir.TensorType(ir.DataType.FLOAT)
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class WidenFloats(Pass):
    """Put Casts to float32 before, and back behind, operators that have no kernel for 16-bit floats.

        x: float16 → MatMul → y: float16      x → Cast → MatMul → Cast → y

    A chain of operators stays in float32 and is rounded at its end, as onnxruntime does it. Not part of any
    recipe: `prepare` runs it for the compiler.
    """

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Widen in place; every node that computes in float32 then is a change."""
        wide = _Wide()
        for node in list(model.graph.all_nodes()):
            if _is_wanted(node, wide):
                report.matched += 1
                wide.widen(node)
                change(report, node, "computed in float32")
        name_everything(model)


def _is_wanted(node: ir.Node, wide: _Wide) -> bool:
    halves = [value for value in node.inputs if _is_half(value)]
    if not halves or node.domain not in ("", "ai.onnx") or node.op_type in ("Cast", "CastLike"):
        return False
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return False
    if any(value.dtype is None or not _is_tensor(value) for value in _of(node.outputs)):
        return False
    return not takes_any_type(node) or any(wide.knows(value, node) for value in _of(halves))


def _of(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [value for value in values if value is not None and value.name != ""]


def _is_half(value: ir.Value | None) -> bool:
    return value is not None and value.dtype in _HALVES and _is_tensor(value)


def _is_tensor(value: ir.Value) -> bool:
    return value.type is None or isinstance(value.type, ir.TensorType)


@dataclass
class _Wide:
    """The float32 form of values, by the graph in which it is."""

    known: dict[tuple[ir.Graph | ir.Function | None, ir.Value], ir.Value] = field(default_factory=dict)

    def knows(self, value: ir.Value, node: ir.Node) -> bool:
        """Whether the value was computed in float32."""
        return value.producer() is not None and (node.graph, value) in self.known

    def widen(self, node: ir.Node) -> None:
        """All 16-bit inputs and outputs of a node become float32."""
        for index, value in enumerate(node.inputs):
            if value is not None and _is_half(value):
                node.replace_input_with(index, self._input(value, node))
        for value in list(node.outputs):
            if _is_half(value):
                self._output(node, value)

    def _input(self, value: ir.Value, node: ir.Node) -> ir.Value:
        key = (node.graph, value)
        if key not in self.known:
            self.known[key] = _stored_wide(value) or _cast_before(node, value)
        return self.known[key]

    def _output(self, node: ir.Node, value: ir.Value) -> None:
        """The value becomes float32; a Cast of it takes its place."""
        narrow = ir.Value(name=value.name, shape=value.shape, type=value.type)
        ir.convenience.replace_all_uses_with(value, narrow, replace_graph_outputs=True)
        cast = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(value.dtype or 0))], outputs=[narrow])
        value.name, value.type = f"{value.name}_float32", _FLOAT32
        node.append(cast)
        self.known[node.graph, narrow] = value


def _stored_wide(value: ir.Value) -> ir.Value | None:
    """A constant in float32; None for what is no constant of the graph."""
    graph = value.graph
    if not value.is_initializer() or value.const_value is None or not isinstance(graph, ir.Graph):
        return None
    array = value.const_value.numpy().astype(np.float32)
    name = f"{value.name}_float32"
    if name not in graph.initializers:
        tensor = ir.Tensor(array, name=name)
        wide = ir.Value(name=name, shape=value.shape, type=_FLOAT32, const_value=tensor)
        graph.register_initializer(wide)
    return graph.initializers[name]


def _cast_before(node: ir.Node, value: ir.Value) -> ir.Value:
    wide = ir.Value(name=f"{value.name}_float32", shape=value.shape, type=_FLOAT32)
    node.prepend(ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(ir.DataType.FLOAT))], outputs=[wide]))
    return wide
