"""Running the passes of a recipe over a model, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.runtime.errors import GossamerError, JobError

from .base import Pass, PassOutcome, weight_bytes
from .catalog import pass_names as pass_names
from .input_shapes import apply_input_shapes
from .naming import name_everything
from .recipe import Recipe
from .report import PassReport, Report

__all__ = ["Feeds", "Progress", "convert_model", "pass_names", "run_passes"]

Feeds = Mapping[str, npt.NDArray[Any]]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done, and how many there are."""


def convert_model(
    model: ir.Model,
    recipe: Recipe,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    calibration: Sequence[Feeds] | None = None,
    progress: Progress | None = None,
) -> tuple[ir.Model, Report]:
    """A converted copy of `model`, and the account of it; `model` itself stays as it is.

    `input_shapes` fixes inputs; symbolic dimensions without a size stay symbolic. `calibration` holds feeds
    for passes that measure activations; where no pass of the recipe does, the report says so. Raises
    GossamerError.
    """
    converted = model.clone()
    apply_input_shapes(converted, input_shapes or {})
    report = Report(model.graph.name or "model", recipe.name, bytes_before=weight_bytes(model))
    report.passes = run_passes(converted, recipe, progress)
    report.bytes_after = weight_bytes(converted)
    if calibration and report.passes:
        report.passes[0].notes.append("no pass of this recipe uses calibration data")
    return converted, report


def run_passes(model: ir.Model, recipe: Recipe, progress: Progress | None = None) -> list[PassReport]:
    """Run the recipe's passes over `model` in place; their accounts in order."""
    name_everything(model)
    passes, reports = recipe.build(), []
    for index, step in enumerate(passes):
        if progress is not None:
            progress(step.pass_name(), index, len(passes))
        reports.append(_run(step, model))
    if progress is not None:
        progress("done", len(passes), len(passes))
    return reports


def _run(step: Pass, model: ir.Model) -> PassReport:
    try:
        with np.errstate(all="ignore"):
            outcome = step(model)
    except GossamerError:
        raise
    except Exception as error:
        raise JobError(f"pass {step.pass_name()!r} failed: {type(error).__name__}: {error}") from error
    assert isinstance(outcome, PassOutcome)
    name_everything(model)
    return outcome.report
