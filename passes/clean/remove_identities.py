"""Nodes that give back what they are given go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass
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
            IdentityEliminationPass()(model)
            _give_outputs_a_producer(model)
        name_everything(model)
        record_removed(report, before, model, "did nothing")


def _give_outputs_a_producer(model: ir.Model) -> None:
    """A graph inside a node may not return a value of the graph around it: there an Identity is needed."""
    for graph in model.graphs():
        for index, value in enumerate(graph.outputs):
            if graph is not model.graph and not _is_own(graph, value):
                node = ir.Node("", "Identity", [value], num_outputs=1)
                output = node.outputs[0]
                output.name, output.shape, output.type = f"{value.name}.out", value.shape, value.type
                graph.append(node)
                graph.outputs[index] = output


def _is_own(graph: ir.Graph, value: ir.Value) -> bool:
    producer = value.producer()
    if producer is not None:
        return producer.graph is graph
    return value in graph.inputs or graph.initializers.get(value.name or "") is value


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
