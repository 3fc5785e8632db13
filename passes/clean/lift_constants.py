"""Constants live in one place: the initializers of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveInitializersFromInputsPass

from ..base import Pass, record_removed
from ..report import PassReport

__all__ = ["LiftConstants"]


@dataclass(frozen=True)
class LiftConstants(Pass):
    """Constant nodes become initializers, and inputs with a default value become constants."""

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Lift in place; each Constant node that vanishes is a change."""
        defaults = [value.name for value in model.graph.inputs if value.is_initializer()]
        RemoveInitializersFromInputsPass()(model)
        if defaults:
            report.notes.append(f"{len(defaults)} inputs had a default value and are constants now")
        before = list(model.graph)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        record_removed(report, before, model, "an initializer")
