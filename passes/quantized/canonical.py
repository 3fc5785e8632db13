"""The rules of `rules/`, applied to every node until none of them finds anything more."""

from __future__ import annotations

import pkgutil
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from importlib import import_module

import onnx_ir as ir

from gossamer.runtime.errors import JobError

from ..base import node_label
from ..report import Change, PassReport, Refusal
from .writing import Refused

__all__ = ["Rule", "bring_to_form", "looks_at"]

Rule = Callable[[ir.Node], str]
"""Changes the graph around a node and says what it did; gives an empty text where it finds nothing, and
raises Refused where what it looks for is there but must stay."""

_RULES: dict[str, list[Rule]] = defaultdict(list)
_SWEEPS = 1000
"""More than the longest path of operators that only move data."""


def looks_at(*operators: str) -> Callable[[Rule], Rule]:
    """Declares that a rule looks at nodes of these standard operators; none named: at every node."""

    def register(rule: Rule) -> Rule:
        for operator in operators or ("",):
            _RULES[operator].append(rule)
        return rule

    return register


@cache
def _load() -> None:
    package = import_module(".rules", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f".rules.{module.name}", __package__)


def bring_to_form(graph: ir.Graph, report: PassReport) -> None:
    """Apply the rules in place; what they changed, and what they refused in the end, goes into `report`."""
    _load()
    for _ in range(_SWEEPS):
        refused = list[Refusal]()
        changes = sum(_visit(node, report, refused) for node in list(graph) if node.graph is graph)
        if not changes:
            report.refused.extend(refused)
            return
    raise JobError("rules for quantised graphs undo each other", where=graph.name)


def _visit(node: ir.Node, report: PassReport, refused: list[Refusal]) -> bool:
    """Whether a rule changed something at `node`; then no other looks at it in this sweep."""
    if node.domain not in ("", "ai.onnx"):
        return False
    label = node_label(node), node.op_type
    for rule in (*_RULES[node.op_type], *_RULES[""]):
        try:
            done = rule(node)
        except Refused as refusal:
            refused.append(Refusal(*label, str(refusal)))
            continue
        if done:
            report.changed.append(Change(*label, done))
            return True
    return False
