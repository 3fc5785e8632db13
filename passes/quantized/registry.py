"""Which function rewrites which operator of quantised values; the files of `operators/` hold them."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ..operator_table import OperatorTable
from .writing import Writer

__all__ = ["CONTRIB", "Rewrite", "rewrite_for", "rewrites"]

Rewrite = Callable[[Writer], ir.Value]
"""Writes nodes before the writer's and returns what its output becomes; raises Refused where it cannot."""
CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_REWRITES: OperatorTable[Rewrite] = OperatorTable(f"{__package__}.operators")


def rewrites(*operators: str, domain: str = CONTRIB) -> Callable[[Rewrite], Rewrite]:
    """Declares that a function rewrites these operators of `domain`."""
    return _REWRITES.declare(domain, *operators)


def rewrite_for(node: ir.Node) -> Rewrite | None:
    """The function that rewrites `node`, None where there is none."""
    return _REWRITES.find("" if node.domain == "ai.onnx" else node.domain, node.op_type)
