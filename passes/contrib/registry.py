"""Which function expands which operator; the files of `operators/` hold them."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module

import onnx_ir as ir

from .expansion import Expansion

__all__ = ["CONTRIB", "EXPERIMENTAL", "Expand", "expands", "expansion_of"]

Expand = Callable[[Expansion], Sequence[ir.Value | None] | ir.Value]
"""Writes nodes in front of the expansion's node and returns what its outputs become; raises Refused."""
CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators: docs/ContribOperators.md in its repository."""
EXPERIMENTAL = "com.microsoft.experimental"
"""Where operators are put that old exporters write into ONNX's own domain, which does not know them."""

_EXPANSIONS: dict[tuple[str, str], Expand] = {}


def expands(*operators: str, domain: str = CONTRIB) -> Callable[[Expand], Expand]:
    """Declares that a function expands these operators of `domain`."""

    def register(expand: Expand) -> Expand:
        for operator in operators:
            assert (domain, operator) not in _EXPANSIONS, operator
            _EXPANSIONS[domain, operator] = expand
        return expand

    return register


@cache
def _load() -> None:
    package = import_module(".operators", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f".operators.{module.name}", __package__)


def expansion_of(domain: str, operator: str) -> Expand | None:
    """The function that expands an operator, None where there is none."""
    _load()
    return _EXPANSIONS.get((domain, operator))
