"""All models at one opset, so that everything after knows one version of each operator."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass
from onnxscript.version_converter import ConvertVersionPass
from pydantic import Field

from gossamer.kernels.formats.base import FUNCTION_OPSET

from ..base import Pass
from ..naming import functions_aside
from ..old_operators import settle_old_slopes
from ..report import Change, PassReport, Refusal

__all__ = ["UpgradeOpset"]

_SCRIPT_OPSET = 18
"""From here on onnxscript's converter is used, below it ONNX's own."""
_SCAN_OPSET = 9
_IR_VERSION = 10
"""The IR version that goes with opset 21."""


@dataclass(frozen=True)
class UpgradeOpset(Pass):
    """Raise the model's opset to `opset`; a newer one stays.

    Where a converter has no way for an operator, the model goes as far as it can and the report says so.
    """

    opset: Annotated[int, Field(ge=18, le=25)] = FUNCTION_OPSET
    stage: ClassVar[str] = "clean"
    exact: ClassVar[bool] = True

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Convert in place, by the largest step that gives a valid model."""
        start = model.opset_imports.setdefault("", model.opset_imports.pop("ai.onnx", self.opset))
        if start < self.opset:
            report.matched = 1
        if start < self.opset and not _keeps(model, start):
            settle_old_slopes(model, start)
            for target in dict.fromkeys((_SCRIPT_OPSET, self.opset)):
                _step(model, target)
        reached = model.opset_imports[""]
        if reached != start:
            report.changed.append(Change("model", "opset", f"{start} → {reached}"))
        if reached < self.opset:
            reason = _keeps(model, start) or f"no converter takes opset {reached} further, it is valid there"
            report.refused.append(Refusal("model", "opset", reason))
        model.ir_version = max(model.ir_version, _IR_VERSION)


def _keeps(model: ir.Model, start: int) -> str:
    """Why a converter would change what the model computes; empty if it would not."""
    if start < _SCAN_OPSET and any(node.op_type == "Scan" for node in model.graph.all_nodes()):
        return f"Scan has another meaning before opset {_SCAN_OPSET}, and no converter knows"
    return ""


def _step(model: ir.Model, target: int) -> None:
    """Go to `target`, else as near to it as possible."""
    for version in range(target, model.opset_imports[""], -1):
        candidate = model.clone()
        if _converted(candidate, version):
            model.graph = candidate.graph
            return


def _converted(model: ir.Model, version: int) -> bool:
    # The converters fail in many ways: messages in a log, exceptions of every kind, invalid models.
    try:
        with functions_aside(model), _quiet("onnxscript", "onnx_ir"):
            ConvertVersionPass(version, fallback=True)(model)
        if model.opset_imports[""] != version:
            return False
        model.ir_version = max(model.ir_version, _IR_VERSION)
        CheckerPass()(model)
    except Exception:
        return False
    return True


@contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
