"""Layer norms written out become one node.

    m = ReduceMean(x, -1)   d = x - m   v = ReduceMean(d², -1)   y = d / √(v + ε) · scale + bias
    y = LayerNormalization(x, scale, bias)

https://onnx.ai/onnx/operators/onnx__LayerNormalization.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ..base import Pass, change, refuse
from ..report import PassReport

__all__ = ["FuseLayerNorm"]

_LEAST_OPSET = 17


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """ReduceMean, Sub, Pow, Sqrt, Div, Mul and Add over the last axis become LayerNormalization."""

    stage: ClassVar[str] = "fuse"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Fuse in place; each square root that vanishes is a change, one that stays is refused."""
        if model.opset_imports.get("", 0) < _LEAST_OPSET:
            return
        for root in [node for node in model.graph if node.op_type == "Sqrt" and not node.domain]:
            if (found := _Found.at(root)) is None:
                continue
            report.matched += 1
            if found.scale is None:
                refuse(report, root, "what it normalises is not scaled by one constant per element of a row")
                continue
            found.replace(model.graph)
            change(report, root, "part of a LayerNormalization")


@dataclass
class _Found:
    """x, ε, and what follows: scale and bias, None where there are none."""

    x: ir.Value
    epsilon: float
    end: ir.Value
    scale: ir.Value | None = None
    bias: ir.Value | None = None

    @classmethod
    def at(cls, root: ir.Node) -> _Found | None:
        """The layer norm around a square root."""
        total = _made_by(root.inputs[0], "Add")
        if total is None:
            return None
        for variance, constant in (total.inputs, total.inputs[::-1]):
            epsilon, centred = _number(constant), _centred(variance)
            if epsilon is None or centred is None or (normal := _divided(centred, root)) is None:
                continue
            x = _mean_of(centred)
            if x is not None and x.dtype == ir.DataType.FLOAT:
                return cls(x, epsilon, normal)._with_parameters()
        return None

    def _with_parameters(self) -> _Found:
        for name, operator in (("scale", "Mul"), ("bias", "Add")):
            reader = _only_reader(self.end)
            if reader is None or reader.op_type != operator or (name == "bias" and self.scale is None):
                break
            row = next((v for v in reader.inputs if v is not self.end), None)
            if row is None or not _is_row(row, self.x):
                break
            setattr(self, name, row)
            self.end = reader.outputs[0]
        return self

    def replace(self, graph: ir.Graph) -> None:
        last = self.end.producer()
        assert last is not None
        unused = _inputs_of(last)
        inputs = [self.x, self.scale, *([self.bias] if self.bias is not None else [])]
        attributes = [ir.AttrInt64("axis", -1), ir.AttrFloat32("epsilon", self.epsilon)]
        norm = ir.Node("", "LayerNormalization", inputs, attributes, name=last.name, num_outputs=1)
        ir.convenience.replace_nodes_and_values(graph, last, [last], [norm], [self.end], norm.outputs)
        while unused:
            value = unused.pop()
            node = value.producer()
            if node is not None and node.graph is graph and not any(v.uses() for v in node.outputs):
                if any(v.is_graph_output() for v in node.outputs):
                    continue
                unused += _inputs_of(node)
                graph.remove(node, safe=True)


def _inputs_of(node: ir.Node) -> list[ir.Value]:
    """Its inputs that are given."""
    return [value for value in node.inputs if value is not None]


def _made_by(value: ir.Value | None, *operators: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in operators and not node.domain else None


def _number(value: ir.Value | None) -> float | None:
    tensor = value.const_value if value is not None and value.is_initializer() else None
    return float(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None


def _row_mean(value: ir.Value | None) -> ir.Value | None:
    """What `value` is the mean of, along the last axis, which is kept."""
    node = _made_by(value, "ReduceMean")
    if node is None or node.attributes.get_int("keepdims", 1) != 1 or node.inputs[0] is None:
        return None
    rank = len(node.inputs[0].shape) if node.inputs[0].shape is not None else 0
    if "axes" in node.attributes:
        axes = list(node.attributes["axes"].as_ints())
    else:
        given = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
        axes = given.numpy().reshape(-1).tolist() if given is not None else []
    return node.inputs[0] if axes in ([-1], [rank - 1]) else None


def _centred(variance: ir.Value | None) -> ir.Value | None:
    """d, where `variance` is the mean of d²."""
    square = _made_by(_row_mean(variance), "Pow", "Mul")
    if square is None:
        return None
    base, other = square.inputs
    same = base is other if square.op_type == "Mul" else _number(other) == 2
    return base if same else None


def _mean_of(centred: ir.Value) -> ir.Value | None:
    """x, where `centred` is x minus its mean."""
    difference = _made_by(centred, "Sub")
    if difference is None:
        return None
    x, mean = difference.inputs
    return x if x is not None and _row_mean(mean) is x else None


def _divided(centred: ir.Value, root: ir.Node) -> ir.Value | None:
    """centred / root, as a division or a product with the reciprocal."""
    reader = _only_reader(root.outputs[0])
    if reader is not None and reader.op_type == "Reciprocal":
        product = _only_reader(reader.outputs[0])
        fits = product is not None and product.op_type == "Mul" and centred in product.inputs
        return product.outputs[0] if fits and product is not None else None
    fits = reader is not None and reader.op_type == "Div" and reader.inputs[0] is centred
    return reader.outputs[0] if fits and reader is not None else None


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _is_row(value: ir.Value, x: ir.Value) -> bool:
    """Whether `value` is a constant for each element of the last axis of `x`."""
    if value.shape is None or x.shape is None or len(x.shape) == 0 or not value.is_initializer():
        return False
    return len(value.shape) == 1 and isinstance(x.shape[-1], int) and value.shape[0] == x.shape[-1]
