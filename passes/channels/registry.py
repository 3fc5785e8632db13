"""How the operators tie the axes of their operands; `rules/` holds the functions, declared by `@ties`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module

import onnx_ir as ir

from .axes import Ties

__all__ = ["Rule", "rule_for", "ties"]

Rule = Callable[[ir.Node, Ties], None]
"""Ties axes of a node's operands, or leaves them: every axis that it does not name is pinned."""

_RULES: dict[str, Rule] = {}
_REPEATABLE: set[str] = set()


def ties(*operators: str, repeatable: bool = False) -> Callable[[Rule], Rule]:
    """Declares that a function knows how these operators of the standard domain treat their axes.

    `repeatable`: it names every axis of every operand, so that the first may be another one too.
    """

    def register(rule: Rule) -> Rule:
        for operator in operators:
            assert operator not in _RULES, operator
            _RULES[operator] = rule
        _REPEATABLE.update(operators if repeatable else ())
        return rule

    return register


@cache
def _load() -> None:
    package = import_module(".rules", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f".rules.{module.name}", __package__)


def rule_for(node: ir.Node) -> Rule | None:
    """The rule for a node; None where there is none, or where its data are parameters of it too."""
    _load()
    repeated = list(node.inputs).count(node.inputs[0]) > 1 if node.inputs else False
    known = not node.domain and (not repeated or node.op_type in _REPEATABLE)
    return _RULES.get(node.op_type) if known else None
