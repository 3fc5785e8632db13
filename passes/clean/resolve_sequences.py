"""Sequences and optional values whose elements are known become the elements themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ..base import Pass, change
from ..naming import name_everything
from ..report import PassReport
from ..sequence_resolving import SequenceResolver

__all__ = ["ResolveSequences"]


_OPSET = 13
"""From here on the sizes of parts and the axes of Squeeze are inputs."""


@dataclass(frozen=True)
class ResolveSequences(Pass):
    """Replace sequences of known length by their elements, and optional values by what they hold.

    SequenceMap is written out for each element. What stays, because a position, a length or a number of turns
    is known only at run time, is left as it is.
    """

    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Resolve in place; each node that vanishes is a change."""
        if model.opset_imports.get("", 1) < _OPSET:
            report.notes.append(f"sequences are resolved from opset {_OPSET} on")
            return
        resolver = SequenceResolver()
        resolver.resolve(model.graph)
        for node in resolver.resolved:
            report.matched += 1
            change(report, node, "its elements are known")
        name_everything(model)
