"""Nodes that give back what they are given go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common as rules

from ..base import Pass, record_removed
from ..naming import functions_aside, keeping_names, name_everything
from ..report import PassReport

__all__ = ["RemoveIdentities"]

_RULES = (
    *rules.mul_by_1_rule.commute(),
    *rules.add_0_rule.commute(),
    rules.sub_0_rule,
    rules.div_by_1_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
)


@dataclass(frozen=True)
class RemoveIdentities(Pass):
    """Remove Identity, Dropout, and whatever else does nothing: adding 0, a transpose there and back, …"""

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Remove in place; each node that vanishes is a change."""
        before = list(model.graph)
        _make_dropouts_identities(model)
        with functions_aside(model), keeping_names(model):
            RewritePass(_RULES)(model)
            for graph in model.graphs():
                _remove_identities(graph)
        name_everything(model)
        record_removed(report, before, model, "did nothing")


def _remove_identities(graph: ir.Graph) -> None:
    """Remove the Identity nodes of one graph, but for those that an output needs.

    onnx_ir's own pass is not used: it lets one value be two outputs of a graph, and a graph inside a node
    return a value of the graph around it; onnxruntime then gives garbage or refuses.
    """
    for node in list(graph):
        given = node.inputs[0] if node.op_type == "Identity" and not node.domain else None
        if given is None:
            continue
        result = node.outputs[0]
        if result.is_graph_output():
            producer = given.producer()
            if producer is None or producer.graph is not graph or given.is_graph_output():
                continue
            _become_output(graph, given, result)
        else:
            result.replace_all_uses_with(given)
        graph.remove(node, safe=True)


def _become_output(graph: ir.Graph, given: ir.Value, result: ir.Value) -> None:
    name = result.name
    given.shape = given.shape if given.shape is not None else result.shape
    given.type = given.type if given.type is not None else result.type
    result.replace_all_uses_with(given, replace_graph_outputs=True)
    result.name = None
    given.name = name


def _make_dropouts_identities(model: ir.Model) -> None:
    """A Dropout gives back its input unless it trains; onnxscript's rules know only its old form."""
    for node in model.graph.all_nodes():
        if node.op_type != "Dropout" or node.domain or _trains(node):
            continue
        mask = node.outputs[1] if len(node.outputs) > 1 else None
        if mask is None or not (mask.uses() or mask.is_graph_output()):
            node.resize_outputs(1)
            node.resize_inputs(1)
            node.attributes.clear()
            node.op_type = "Identity"


def _trains(node: ir.Node) -> bool:
    flag = node.inputs[2] if len(node.inputs) > 2 else None
    if flag is None:
        return False
    return flag.const_value is None or bool(flag.const_value.numpy().any())
