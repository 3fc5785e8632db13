"""Loops of a few turns, known when the model is compiled, are written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from ..base import Pass, change, refuse
from ..inlining import constant_before, inline_graph, node_before, replace_values
from ..loop_shapes import carried_shapes
from ..naming import name_everything
from ..report import PassReport

__all__ = ["UnrollLoops"]


@dataclass(frozen=True)
class UnrollLoops(Pass):
    """Write out Loops whose number of turns is constant, and whose condition always holds.

    Those that become at most `nodes` nodes are, since they then cost no turns and are fused with what is
    around them. Those that carry sequences, or values that grow from turn to turn, are up to `most_nodes`:
    nothing else gives their values shapes.
    """

    nodes: Annotated[int, Field(ge=0)] = 24
    most_nodes: Annotated[int, Field(ge=0)] = 4096
    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Unroll in place, inner loops of what was written out too; each Loop that vanishes is a change."""
        kept: set[ir.Node] = set()
        while (node := _next_loop(model, kept)) is not None:
            kept.add(node)
            report.matched += 1
            turns = _turns(node)
            if turns is None:
                continue
            size = turns * sum(1 for _ in node.attributes["body"].as_graph().all_nodes())
            if size > self._limit(node, model.opset_imports.get("", 1)):
                refuse(report, node, f"written out it would be {size} nodes")
                continue
            _unroll(node, turns)
            change(report, node, f"written out, {turns} turns")
        name_everything(model)

    def _limit(self, node: ir.Node, opset: int) -> int:
        sequences = any(isinstance(v.type, ir.SequenceType) for v in node.outputs)
        return self.most_nodes if sequences or False in carried_shapes(node, opset) else self.nodes


def _next_loop(model: ir.Model, kept: set[ir.Node]) -> ir.Node | None:
    """The next one, outer ones first."""
    found = (n for n in model.graph.all_nodes() if n.op_type == "Loop" and n.domain in ("", "ai.onnx"))
    return next((node for node in found if node not in kept), None)


def _turns(node: ir.Node) -> int | None:
    """How many turns it makes, where that is certain; some, since none give results no shape."""
    body = node.attributes["body"].as_graph()
    limit, condition = node.inputs[:2]
    known = ir.convenience.get_const_tensor(limit) if limit is not None else None
    if known is None or not (condition is None or _is_true(condition)):
        return None
    if body.outputs[0] is not body.inputs[1] and not _passes_on(body) and not _is_true(body.outputs[0]):
        return None
    turns = int(known.numpy().reshape(-1)[0])
    return turns if turns > 0 else None


def _is_true(value: ir.Value) -> bool:
    known = ir.convenience.get_const_tensor(value)
    return known is not None and bool(known.numpy().all())


def _passes_on(body: ir.Graph) -> bool:
    """Whether the condition of the next turn is that of this one."""
    node = body.outputs[0].producer()
    return node is not None and node.op_type == "Identity" and node.inputs[0] is body.inputs[1]


def _unroll(node: ir.Node, turns: int) -> None:
    body = node.attributes["body"].as_graph()
    states = [value for value in node.inputs[2:] if value is not None]
    carried = len(states)
    collected: list[list[ir.Value]] = [[] for _ in body.outputs[1 + carried :]]
    going = constant_before(node, np.array(True))
    for turn in range(turns):
        number = constant_before(node, np.array(turn, np.int64))
        _, *results = inline_graph(body, node, [number, going, *states])
        states = results[:carried]
        for values, result in zip(collected, results[carried:], strict=True):
            values.append(result)
    axes = constant_before(node, np.array([0], np.int64))
    stacks = []
    for values in collected:
        rows = [node_before(node, "Unsqueeze", [value, axes]).outputs[0] for value in values]
        stacks.append(node_before(node, "Concat", rows, axis=0).outputs[0])
    replace_values(node, [*states, *stacks])
