"""Finds the rule that lowers an operator: every file in `operators/` is read, none is listed."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module

import onnx_ir as ir

from .state import Lowering

__all__ = ["has_rule", "lowers", "rule_for"]

Rule = Callable[[Lowering, ir.Node], None]
Takes = Callable[[ir.Node], bool]
_RULES: dict[str, Rule] = {}
_TAKES: dict[str, Takes] = {}


def lowers(*operators: str, takes: Takes | None = None) -> Callable[[Rule], Rule]:
    """Declares that a function lowers these operators of the standard domain.

    Nodes for which `takes` is false are expanded to their definition in ONNX, where there is one.
    """

    def register(rule: Rule) -> Rule:
        for operator in operators:
            assert operator not in _RULES, operator
            _RULES[operator] = rule
            if takes is not None:
                _TAKES[operator] = takes
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


def has_rule(node: ir.Node) -> bool:
    """Whether a rule lowers a node of the standard domain, by its operator, attributes and types."""
    if rule_for(node.op_type) is None:
        return False
    takes = _TAKES.get(node.op_type)
    return takes is None or takes(node)
