"""Finds the rule that lowers an operator: every file in `operators/` is read, none is listed."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module

import onnx_ir as ir

from .state import Lowering

__all__ = ["REFUSAL", "has_rule", "lowers", "rule_for", "takes_any_type"]

REFUSAL = "gossamer.refusal"
"""Where a pass that could not expand a node says why, in the node's `meta`."""
Rule = Callable[[Lowering, ir.Node], None]
Takes = Callable[[ir.Node], bool]
_RULES: dict[str, Rule] = {}
_TAKES: dict[str, Takes] = {}
_ANY_TYPE: set[str] = set()


def lowers(*operators: str, takes: Takes | None = None, any_type: bool = False) -> Callable[[Rule], Rule]:
    """Declares that a function lowers these operators of the standard domain.

    Nodes for which `takes` is false are expanded to their definition in ONNX, where there is one. A rule that
    takes `any_type` asks nothing of elements but `kernels/cpu/element_types.py`; other rules are given
    float32 for floats of 16 bits.
    """

    def register(rule: Rule) -> Rule:
        for operator in operators:
            assert operator not in _RULES, operator
            _RULES[operator] = rule
            if takes is not None:
                _TAKES[operator] = takes
            if any_type:
                _ANY_TYPE.add(operator)
        return rule

    return register


@cache
def _load() -> None:
    package = import_module(".operators", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f".operators.{module.name}", __package__)


def rule_for(operator: str) -> Rule | None:
    """The rule of an operator, None when there is none."""
    _load()
    return _RULES.get(operator)


def takes_any_type(node: ir.Node) -> bool:
    """Whether the node's operator has a rule that leaves elements as they are or computes all types."""
    _load()
    return node.op_type in _ANY_TYPE


def has_rule(node: ir.Node) -> bool:
    """Whether a rule lowers a node of the standard domain, by its operator, attributes and types."""
    if rule_for(node.op_type) is None:
        return False
    takes = _TAKES.get(node.op_type)
    return takes is None or takes(node)
