"""From a size or a bound on what quality may drop to a recipe with a level for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.runtime.errors import JobError, OptionError

from ..base import weight_bytes
from ..layers import Layer, weighted_layers
from ..recipe import Recipe
from ..reference import run_onnx
from ..report import PassReport
from ..running import convert_model, run_passes
from .allocating import Allocator, Candidate, greedy
from .levels import Level, known_levels, level_recipe
from .sensitivity import decoded, sensitivity

__all__ = ["Budget", "first_feeds", "fit_budget", "predictions"]

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
Say = Callable[[str], None]
_SAMPLES = 64  # of the calibration data, on which every layer is measured at every level
_TRIES = 4  # what the passes store may differ a little from what was estimated


@dataclass(frozen=True)
class Budget:
    """`size`: bytes that all weights may take, or a share of them when it is a float; `drop`: share of the
    calibration data's predictions (largest value along the last axis) that may differ from the source's."""

    size: int | float | None = None
    drop: float | None = None


def fit_budget(
    model: ir.Model,
    base: Recipe,
    budget: Budget,
    calibration: Sequence[Feeds],
    *,
    levels: Sequence[Level] = (),
    allocator: Allocator = greedy,
    say: Say = lambda text: None,
) -> Recipe:
    """`base` with a level for each layer, so that `budget` holds for the converted `model`.

    Every layer is measured at every one of `levels` (all known ones) on its own: the error of the model's
    outputs on the first calibration feeds. Raises OptionError where the recipe compresses already, or there
    is no data; JobError where the budget cannot be met, with what was reached.
    """
    if not all(step.exact for step in base.build()):
        raise OptionError(
            "the recipe compresses already", where=base.name, expected="one that is exact, as default"
        )
    if not calibration:
        raise OptionError("a budget is spent by errors on sample inputs", expected="--calibrate FILE.npz|DIR")
    clean = model.clone()
    run_passes(clean, Recipe(base.name, _clean_passes(base)))
    found = _measured(clean, base, levels or known_levels(), calibration, say)
    fitting = _Fitting(model, base, found, weight_bytes(clean), calibration, say)
    if budget.size is not None:
        share = budget.size if isinstance(budget.size, float) else budget.size / max(1, weight_bytes(model))
        recipe = fitting.by_size(round(share * weight_bytes(model)), allocator)
        if budget.drop is not None and (drop := fitting.drop(recipe)) > budget.drop:
            raise JobError(
                "the size costs more quality than it may",
                expected=f"a drop of at most {budget.drop:.2%}",
                got=f"{drop:.2%}",
            )
        return recipe
    if budget.drop is None:
        raise OptionError("an empty budget", expected="a size, a drop, or both")
    return fitting.by_drop(budget.drop, allocator)


def _clean_passes(base: Recipe) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return base.passes[: sum(step.stage == "clean" for step in base.build())]


def _measured(
    clean: ir.Model, base: Recipe, levels: Sequence[Level], calibration: Sequence[Feeds], say: Say
) -> dict[str, list[Candidate]]:
    """Candidates of each layer that any level changes; the first one is the layer as it is."""
    layers = {str(layer.node.name): layer for layer in _own_layers(clean)}
    found: dict[str, list[Candidate]] = {}
    with sensitivity(clean, list(layers.values()), first_feeds(calibration, _SAMPLES)) as watch:
        for level in levels:
            say(f"measuring {level.name}")
            copy = clean.clone()
            reports = run_passes(copy, level_recipe(Recipe("level", ()), dict.fromkeys(layers, level)))
            stored = _stored_bytes(reports)
            nodes = {node.name: node for node in copy.graph}
            for name, layer in layers.items():
                weight = decoded(nodes[name].inputs[1]) if name in stored and name in nodes else None
                if weight is None or weight.shape != tuple(_shape(layer)):
                    continue
                error = watch.error(str(layer.weight.name), weight)
                own = found.setdefault(name, [Candidate(name, None, _bytes(layer), 0.0)])
                if stored[name] < own[0].bytes and isfinite(error):
                    own.append(Candidate(name, level, stored[name], error))
    return found


def first_feeds(calibration: Sequence[Feeds], samples: int) -> list[Feeds]:
    """Feeds from the start that hold so many samples, counted along the first axis of their first array."""
    chosen: list[Feeds] = []
    count = 0
    for feeds in calibration:
        if count >= samples:
            break
        chosen.append(feeds)
        count += max(1, next((len(array) for array in feeds.values() if array.ndim), 1))
    return chosen


def _own_layers(model: ir.Model) -> list[Layer]:
    """Layers whose weights nobody else reads, and that can be changed."""
    return [
        layer
        for layer in weighted_layers(model)
        if not layer.reason_not_constant()
        and len(layer.weight.uses()) == 1
        and layer.weight.dtype == ir.DataType.FLOAT
        and not layer.weight.is_graph_input()
    ]


def _shape(layer: Layer) -> Sequence[int]:
    assert layer.weight.shape is not None
    return layer.weight.shape.numpy()


def _bytes(layer: Layer) -> int:
    assert layer.weight.const_value is not None
    return layer.weight.const_value.nbytes


def _stored_bytes(reports: Sequence[PassReport]) -> dict[str, int]:
    """Bytes of each changed node's weights after the last pass that changed it."""
    return {
        change.node: change.bytes_after
        for report in reports
        for change in report.changed
        if change.bytes_after
    }


@dataclass
class _Fitting:
    """Conversions tried until one fits."""

    model: ir.Model
    base: Recipe
    candidates: Mapping[str, Sequence[Candidate]]
    clean_bytes: int
    calibration: Sequence[Feeds]
    say: Say

    @property
    def _others(self) -> int:
        """Bytes of weights that have no candidates."""
        return self.clean_bytes - sum(own[0].bytes for own in self.candidates.values())

    def _recipe(self, chosen: Mapping[str, Candidate]) -> Recipe:
        levels = {node: candidate.level for node, candidate in chosen.items() if candidate.level is not None}
        return level_recipe(self.base, levels)

    def by_size(self, size: int, allocator: Allocator) -> Recipe:
        """The least error whose conversion takes at most `size` bytes."""
        wanted = size
        reached = 0
        for _ in range(_TRIES):
            recipe = self._recipe(allocator(self.candidates, wanted - self._others)[-1])
            self.say(f"converting to {wanted:,} bytes")
            reached = convert_model(self.model, recipe, calibration=self.calibration)[1].bytes_after
            if reached <= size:
                return recipe
            wanted -= reached - size
        raise JobError(
            "the weights cannot be made so small", expected=f"{size:,} bytes", got=f"{reached:,} bytes"
        )

    def by_drop(self, drop: float, allocator: Allocator) -> Recipe:
        """The smallest allocation on the way down that keeps the drop: bisection over its steps."""
        path = allocator(self.candidates, 0)
        low, high = 0, len(path) - 1
        best = self._recipe(path[0])
        while low <= high:
            middle = (low + high) // 2
            recipe = self._recipe(path[middle])
            found = self.drop(recipe)
            self.say(f"step {middle} of {len(path)}: {found:.2%} of the predictions change")
            if found <= drop:
                best, low = recipe, middle + 1
            else:
                high = middle - 1
        return best

    def drop(self, recipe: Recipe) -> float:
        """The share of predictions on the calibration data that conversion changes."""
        converted, _ = convert_model(self.model, recipe, calibration=self.calibration)
        changed = [
            predictions(run_onnx(self.model, feeds)) != predictions(run_onnx(converted, feeds))
            for feeds in self.calibration
        ]
        return float(np.mean(np.concatenate(changed)))


def predictions(outputs: Sequence[Array]) -> Array:
    """The largest value along the last axis of the first output that has one, flat. Raises OptionError."""
    for output in outputs:
        if output.dtype.kind == "f" and output.ndim and output.shape[-1] > 1:
            found: Array = output.argmax(-1).ravel()
            return found
    raise OptionError("a drop is counted in predictions, and no output has classes", expected="--target-size")
