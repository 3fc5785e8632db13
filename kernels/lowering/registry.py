"""Finds the rule that lowers an operator: every file in `operators/` is read, none is listed."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module

import onnx_ir as ir

from .state import Lowering

__all__ = ["lowers", "rule_for"]

Rule = Callable[[Lowering, ir.Node], None]
_RULES: dict[str, Rule] = {}


def lowers(*operators: str) -> Callable[[Rule], Rule]:
    """Declares that a function lowers these operators of the standard domain."""

    def register(rule: Rule) -> Rule:
        for operator in operators:
            assert operator not in _RULES, operator
            _RULES[operator] = rule
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
