"""Functions other than those of formats become the nodes of their bodies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, RemoveUnusedFunctionsPass

from gossamer.kernels.formats import DOMAIN, format_of_operator
from gossamer.runtime.errors import ModelError

from ..base import Pass, change
from ..report import PassReport

__all__ = ["InlineFunctions"]

_NODE_LIMIT = 1_000_000


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Inline model-local functions; the calls of known formats stay, since kernels are found by them.

    Raises ModelError where functions call each other in a circle, or would become more than a million nodes.
    """

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Inline in place; each call that vanishes is a change."""
        calls = [node for node in model.graph.all_nodes() if _is_inlined(model, node.op_identifier())]
        if calls:
            _check_size(model)
            self._inline(model, calls, report)
        RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]

    def _inline(self, model: ir.Model, calls: list[ir.Node], report: PassReport) -> None:
        try:
            InlinePass(criteria=lambda function: _is_inlined(model, function.identifier()))(model)
        except (ir.passes.InvariantError, ValueError) as error:
            raise ModelError(f"a function cannot be inlined: {error}", where=calls[0].name) from None
        for node in calls:
            report.matched += 1
            change(report, node, "inlined")


def _is_inlined(model: ir.Model, identifier: tuple[str, str, str]) -> bool:
    known_format = identifier[0] == DOMAIN and format_of_operator(identifier[1]) is not None
    return identifier in model.functions and not known_format


def _check_size(model: ir.Model) -> None:
    """Functions that call functions grow exponentially: count before inlining."""
    sizes: dict[tuple[str, str, str], int] = {}
    open_calls: set[tuple[str, str, str]] = set()

    def size(nodes: Counter[tuple[str, str, str]]) -> int:
        return sum(count * size_of(identifier) for identifier, count in nodes.items())

    def size_of(identifier: tuple[str, str, str]) -> int:
        if identifier not in model.functions:
            return 1
        if identifier in open_calls:
            raise ModelError("functions call each other in a circle", where="::".join(identifier[:2]))
        if identifier not in sizes:
            open_calls.add(identifier)
            body = model.functions[identifier].all_nodes()
            sizes[identifier] = size(Counter(node.op_identifier() for node in body))
            open_calls.remove(identifier)
        return sizes[identifier]

    total = size(Counter(node.op_identifier() for node in model.graph.all_nodes()))
    if total > _NODE_LIMIT:
        raise ModelError("functions become too many nodes", expected=f"at most {_NODE_LIMIT}", got=total)
