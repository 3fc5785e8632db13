"""Running the passes of a recipe over a model, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
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
from .report import OutputCheck, PassReport, Report

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
    check_with: Feeds | None = None,
) -> tuple[ir.Model, Report]:
    """A converted copy of `model`, and the account of it; `model` itself stays as it is.

    `input_shapes` fixes inputs; symbolic dimensions without a size stay symbolic. `calibration` holds feeds
    for passes that measure activations; where no pass of the recipe does, the report says so. With the
    feeds `check_with`, a recipe that is lossy somewhere has each run of its exact passes checked on its
    own. Raises GossamerError.
    """
    converted = model.clone()
    apply_input_shapes(converted, input_shapes or {})
    report = Report(model.graph.name or "model", recipe.name, bytes_before=weight_bytes(model))
    if check_with is not None and not all(step.exact for step in recipe.build()):
        report.passes, report.checks = _run_checked(converted, recipe, progress, check_with)
    else:
        report.passes = run_passes(converted, recipe, progress)
    report.bytes_after = weight_bytes(converted)
    if calibration and report.passes:
        report.passes[0].notes.append("no pass of this recipe uses calibration data")
    return converted, report


def run_passes(model: ir.Model, recipe: Recipe, progress: Progress | None = None) -> list[PassReport]:
    """Run the recipe's passes over `model` in place; their accounts in order."""
    return _run_all(recipe.build(), model, _Steps(progress, len(recipe.passes)))


def _run_checked(
    model: ir.Model, recipe: Recipe, progress: Progress | None, feeds: Feeds
) -> tuple[list[PassReport], list[OutputCheck]]:
    from .verifying import ExactChecker  # onnxruntime, which nothing else here needs

    checker, reports = ExactChecker(feeds), []
    steps = _Steps(progress, len(recipe.passes))
    for exact, group in groupby(recipe.build(), key=lambda step: step.exact):
        if exact:
            checker.begin(model)
        done = _run_all(list(group), model, steps)
        if exact and any(entry.changed for entry in done):
            checker.end(model, [entry.name for entry in done])
        reports += done
    return reports, checker.checks


class _Steps:
    """Counts passes for whoever shows progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def start(self, label: str) -> None:
        if self._progress is not None:
            self._progress(label, self._done, self._total)

    def end(self, label: str) -> None:
        self._done += 1
        if self._progress is not None and self._done == self._total:
            self._progress(label, self._done, self._total)


def _run_all(passes: Sequence[Pass], model: ir.Model, steps: _Steps) -> list[PassReport]:
    name_everything(model)
    reports = []
    for step in passes:
        steps.start(step.pass_name())
        reports.append(_run(step, model))
        steps.end(step.pass_name())
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
