"""What no output depends on goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedFunctionsPass, RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

from ..base import Pass, record_removed
from ..naming import functions_aside
from ..report import PassReport

__all__ = ["RemoveUnused"]


@dataclass(frozen=True)
class RemoveUnused(Pass):
    """Remove nodes, initializers, functions and opsets that nothing uses; inputs and outputs stay."""

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Remove in place; each node that vanishes is a change."""
        before, weights = list(model.graph), len(model.graph.initializers)
        RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        with functions_aside(model):
            RemoveUnusedNodesPass()(model)
        RemoveUnusedOpsetsPass()(model)
        record_removed(report, before, model, "nothing uses it")
        if gone := weights - len(model.graph.initializers):
            report.notes.append(f"{gone} initializers that nothing uses are gone")
