"""Running the passes of a recipe over a model, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.runtime.errors import GossamerError, JobError

from .activations import Calibration
from .base import Pass, PassOutcome, weight_bytes
from .catalog import pass_names as pass_names
from .context import Context
from .input_shapes import apply_input_shapes
from .naming import name_everything
from .quantized.checking import check_quantization
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
    passes, steps = recipe.build(), _Steps(progress, len(recipe.passes))
    context = Context(Calibration(calibration) if calibration else None, steps.say)
    bound = [step.within(context) for step in passes]
    watched = check_with if not all(step.exact for step in passes) else None
    report.passes, report.checks = _run_stages(bound, converted, steps, watched)
    report.bytes_after = weight_bytes(converted)
    if calibration and report.passes and not any(step.calibrated for step in passes):
        report.passes[0].notes.append("no pass of this recipe uses calibration data")
    return converted, report


def run_passes(model: ir.Model, recipe: Recipe, progress: Progress | None = None) -> list[PassReport]:
    """Run the recipe's passes over `model` in place; their accounts in order."""
    return _run_stages(recipe.build(), model, _Steps(progress, len(recipe.passes)), None)[0]


def _run_stages(
    passes: Sequence[Pass], model: ir.Model, steps: _Steps, check_with: Feeds | None
) -> tuple[list[PassReport], list[OutputCheck]]:
    """The clean model shows whether the options of all further passes fit it, before any of them works."""
    check_quantization(model)
    clean = sum(step.stage == "clean" for step in passes)
    steps.keep_source = any(step.compares for step in passes)
    reports, checks = list[PassReport](), list[OutputCheck]()
    for part in (passes[:clean], passes[clean:]):
        if part and part[0].stage != "clean":
            name_everything(model)
            for step in part:
                step.check(model)
        if check_with is None:
            reports += _run_all(part, model, steps)
        else:
            done, found = _run_checked(model, part, steps, check_with)
            reports, checks = reports + done, checks + found
    return reports, checks


def _run_checked(
    model: ir.Model, passes: Sequence[Pass], steps: _Steps, feeds: Feeds
) -> tuple[list[PassReport], list[OutputCheck]]:
    from .verifying import ExactChecker  # onnxruntime, which nothing else here needs

    checker, reports = ExactChecker(feeds), list[PassReport]()
    for exact, group in groupby(passes, key=lambda step: step.exact):
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
        self._progress, self._total, self._done, self._label = progress, total, 0, ""
        self.keep_source = False
        self.source: ir.Model | None = None

    def start(self, label: str) -> None:
        self._label = label
        self._show(label)

    def say(self, text: str) -> None:
        """How far the pass that runs is."""
        self._show(f"{self._label}: {text}")

    def _show(self, label: str) -> None:
        if self._progress is not None:
            self._progress(label, self._done, self._total)

    def end(self, label: str) -> None:
        self._done += 1
        if self._progress is not None and self._done == self._total:
            self._progress(label, self._done, self._total)


def _run_all(passes: Sequence[Pass], model: ir.Model, steps: _Steps) -> list[PassReport]:
    name_everything(model)
    reports = list[PassReport]()
    for step in passes:
        steps.start(step.pass_name())
        if steps.keep_source and steps.source is None and not step.exact:
            steps.source = model.clone()  # it shares the tensors
        bound = step.within(replace(step.context, source=steps.source)) if step.compares else step
        reports.append(_run(bound, model))
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
