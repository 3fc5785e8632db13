"""Constant tables whose rows are looked up: the embeddings of a language model."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from .base import node_label
from .layers import Layer

__all__ = ["LookupTable", "lookup_tables"]


@dataclass(frozen=True)
class LookupTable(Layer):
    """A Gather of rows of a constant [rows, width]; its rows stand for the outputs of a layer."""

    def reason_not_constant(self) -> str:
        """Why the table cannot be changed; empty if it can."""
        if self.weight.const_value is None or self.weight.is_graph_input():
            return "its table is not constant"
        if self.weight.is_graph_output():
            return "its table is an output of the model"
        others = [use.node for use in self.weight.uses() if not _looks_up(use.node, self.weight)]
        if others:
            return f"its table is read by {others[0].op_type} {node_label(others[0])} too"
        return ""


def lookup_tables(model: ir.Model) -> list[LookupTable]:
    """Gathers of the main graph that take rows of a constant matrix of floats, in order."""
    tables = []
    for node in model.graph:
        table = node.inputs[0] if node.op_type == "Gather" and not node.domain else None
        if table is not None and table.is_initializer() and _looks_up(node, table):
            tables.append(LookupTable(node, table, True))
    return tables


def _looks_up(node: ir.Node, table: ir.Value) -> bool:
    return (
        node.op_type == "Gather"
        and not node.domain
        and node.inputs[0] is table
        and list(node.inputs).count(table) == 1
        and node.attributes.get_int("axis", 0) == 0
        and table.dtype == ir.DataType.FLOAT
        and table.shape is not None
        and len(table.shape) == 2
    )
