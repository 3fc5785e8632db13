"""Which function rewrites which operator of quantised values; the files of `operators/` hold them."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module

import onnx_ir as ir

from .writing import Writer

__all__ = ["CONTRIB", "Rewrite", "rewrite_for", "rewrites"]

Rewrite = Callable[[Writer], ir.Value]
"""Writes nodes before the writer's and returns what its output becomes; raises Refused where it cannot."""
CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_REWRITES: dict[tuple[str, str], Rewrite] = {}


def rewrites(*operators: str, domain: str = CONTRIB) -> Callable[[Rewrite], Rewrite]:
    """Declares that a function rewrites these operators of `domain`."""

    def register(rewrite: Rewrite) -> Rewrite:
        for operator in operators:
            assert (domain, operator) not in _REWRITES, operator
            _REWRITES[domain, operator] = rewrite
        return rewrite

    return register


@cache
def _load() -> None:
    package = import_module(".operators", __package__)
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f".operators.{module.name}", __package__)


def rewrite_for(node: ir.Node) -> Rewrite | None:
    """The function that rewrites `node`, None where there is none."""
    _load()
    return _REWRITES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
