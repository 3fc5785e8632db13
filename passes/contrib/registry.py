"""Which function expands which operator; the files of `operators/` hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from ..operator_table import OperatorTable
from .expansion import Expansion

__all__ = ["CONTRIB", "EXPERIMENTAL", "Expand", "expands", "expansion_of"]

Expand = Callable[[Expansion], Sequence[ir.Value | None] | ir.Value]
"""Writes nodes in front of the expansion's node and returns what its outputs become; raises Refused."""
CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators: docs/ContribOperators.md in its repository."""
EXPERIMENTAL = "com.microsoft.experimental"
"""Where operators are put that old exporters write into ONNX's own domain, which does not know them."""

_EXPANSIONS: OperatorTable[Expand] = OperatorTable(f"{__package__}.operators")


def expands(*operators: str, domain: str = CONTRIB) -> Callable[[Expand], Expand]:
    """Declares that a function expands these operators of `domain`."""
    return _EXPANSIONS.declare(domain, *operators)


def expansion_of(domain: str, operator: str) -> Expand | None:
    """The function that expands an operator, None where there is none."""
    return _EXPANSIONS.find(domain, operator)
