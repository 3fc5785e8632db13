"""`gossamer.convert`: a recipe applied to a model, and the result compared with the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.runtime.errors import OptionError
from gossamer.runtime.feeds import read_feeds

from .console import Progress

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from gossamer.passes.recipe import Recipe
    from gossamer.passes.report import Report

    Source = str | Path | bytes | onnx.ModelProto | ir.Model

__all__ = ["Conversion", "ConvertResult", "convert", "read_calibration"]

Feeds = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class ConvertResult:
    """A converted model (an `onnx_ir.Model`) and what every pass did to it."""

    model: ir.Model
    report: Report

    def save(self, path: str | Path) -> None:
        """Write the model, whole or not at all. Raises JobError."""
        from gossamer.passes.saving import save_model

        save_model(self.model, path)


def convert(
    model: Source,
    recipe: str | Path | Recipe = "default",
    *,
    settings: Iterable[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    calibration: Iterable[Feeds] = (),
    verify: bool = True,
    max_error: float | None = None,
    target_size: int | float | None = None,
    max_drop: float | None = None,
    progress: Progress | None = None,
) -> ConvertResult:
    """Apply a recipe (a preset's name, a YAML file or a Recipe) and compare the result with the source.

    `settings` are texts `pass.option=value`. `calibration` is any iterable of sample inputs, one dict of
    name: array for each run. An exact recipe must give the same outputs; a lossy one fails
    only beyond `max_error`, in spreads of each output. `target_size` (bytes, or as a float a share of the
    source's) and `max_drop` (share of predictions on `calibration` that may change) let an exact recipe
    choose how each layer is compressed. Raises InputError, or JobError when a check fails.
    """
    job = Conversion(model, recipe, settings, input_shapes or {}, calibration, (target_size, max_drop))
    result = job.run(verify, progress)
    if verify:
        job.verify(result, max_error)
    return result


class Conversion:
    """One conversion in two steps, so that a report can be kept when the second fails."""

    def __init__(
        self,
        source: Source,
        recipe: str | Path | Recipe,
        settings: Iterable[str] = (),
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        calibration: Iterable[Feeds] = (),
        budget: tuple[int | float | None, float | None] = (None, None),
    ) -> None:
        from gossamer.passes.calibration_feeds import checked_calibration
        from gossamer.passes.loading import load_model
        from gossamer.passes.recipe import load_recipe

        found = load_recipe(recipe) if isinstance(recipe, str | Path) else recipe
        self._recipe = found.with_settings(settings)
        self._shapes = dict(input_shapes or {})
        self._budget = budget
        self._source = load_model(source)
        self._calibration = checked_calibration(self._source, calibration, self._shapes)
        self._feeds: Feeds | None = None

    def run(self, verify: bool = True, progress: Progress | None = None) -> ConvertResult:
        """Apply the passes; with `verify`, exact passes of a lossy recipe are checked on their own."""
        from gossamer.passes.running import convert_model

        model, report = convert_model(
            self._source,
            self._fitted(progress),
            input_shapes=self._shapes,
            calibration=self._calibration,
            progress=progress,
            check_with=self._sample() if verify else None,
        )
        return ConvertResult(model, report)

    def _fitted(self, progress: Progress | None) -> Recipe:
        """The recipe, with a level for each layer where there is a budget."""
        if self._budget == (None, None):
            return self._recipe
        from gossamer.passes.budget import Budget, fit_budget

        def say(text: str) -> None:
            if progress is not None:
                progress(text, 0, 1)

        return fit_budget(self._source, self._recipe, Budget(*self._budget), self._calibration, say=say)

    def verify(self, result: ConvertResult, max_error: float | None = None) -> None:
        """Run source and result on the same inputs; errors go into the report. Raises JobError."""
        from gossamer.passes.verifying import verify_conversion

        verify_conversion(self._source, result.model, result.report, self._sample(), max_error)

    def _sample(self) -> Feeds:
        """What both are run on: the first calibration sample, else random inputs."""
        if self._feeds is None:
            from gossamer.passes.verifying import sample_feeds

            given = self._calibration
            self._feeds = dict(given[0] if given else sample_feeds(self._source, self._shapes))
        return self._feeds


def read_calibration(path: Path | None) -> list[Feeds]:
    """Samples from one .npz file, or from each .npz of a folder in the order of names. Raises InputError."""
    if path is None:
        return []
    if not path.is_dir():
        return [read_feeds(path)]
    files = sorted(path.glob("*.npz"))
    if not files:
        raise OptionError("the folder holds no .npz file", where=f"--calibrate {path}")
    return [read_feeds(file) for file in files]
