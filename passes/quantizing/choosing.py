"""Mixed precision: the layers that quantisation hurts most stay in float.

Each layer is quantised on its own, and the error of the model's outputs says how much it matters. Either so
many of the worst are kept, or as few as it takes until enough of the predictions stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.runtime.errors import JobError

from ..base import node_label
from ..budget.fitting import first_feeds, predictions
from ..layers import Layer, weighted_layers
from ..reference import open_onnx, run_opened
from .plan import Plan

__all__ = ["Trials"]

Array = npt.NDArray[Any]
_SAMPLES = 64  # of the calibration data, on which every layer is measured


@dataclass
class Trials:
    """Parts of `layers` of a float `model`, quantised by `plan` and run on the first calibration feeds."""

    model: ir.Model
    plan: Plan
    layers: Sequence[Layer]
    feeds: Sequence[Mapping[str, Array]]

    def __post_init__(self) -> None:
        """Run the float model."""
        self.feeds = first_feeds(self.feeds, _SAMPLES)
        self._expected = self._run(self.model)

    def order(self, each: Callable[[Iterable[float], Sequence[str]], Iterable[float]]) -> list[Layer]:
        """The layers, those first whose quantisation changes the outputs most; `each` shows progress."""
        names = [node_label(layer.node) for layer in self.layers]
        errors = dict(zip(names, each(map(self._error, self.layers), names), strict=True))
        return sorted(self.layers, key=lambda layer: -errors[node_label(layer.node)])

    def least_kept(self, order: Sequence[Layer], drop: float) -> int:
        """How many of the first of `order` must stay float so that at most the share `drop` of predictions
        changes. Raises JobError where all of them would have to."""
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            if self._drop(order[middle:]) <= drop:
                high = middle
            else:
                low = middle + 1
        if low == len(order):
            raise JobError(
                "no layer can be quantised without changing more predictions",
                expected=f"a drop of at most {drop:.2%}",
                got=f"{self._drop(order[-1:]):.2%} with one layer",
            )
        return low

    def _quantised(self, layers: Sequence[Layer]) -> list[list[Array]]:
        copy = self.model.clone()
        names = {layer.node.name for layer in layers}
        self.plan.carry_out(copy, [layer for layer in weighted_layers(copy) if layer.node.name in names])
        return self._run(copy)

    def _run(self, model: ir.Model) -> list[list[Array]]:
        with open_onnx(model) as session:
            return [run_opened(session, feeds) for feeds in self.feeds]

    def _error(self, layer: Layer) -> float:
        """Mean squared error of the outputs over their mean square, with this layer alone quantised."""
        own = [other for other in self.layers if other.weight is layer.weight]
        shares = [
            float(np.mean((one.astype(np.float64) - two) ** 2) / max(float(np.mean(two**2)), 1e-30))
            for got, expected in zip(self._quantised(own), self._expected, strict=True)
            for one, two in zip(got, expected, strict=True)
            if two.dtype.kind == "f" and two.size
        ]
        return float(np.mean(shares)) if shares else 0.0

    def _drop(self, layers: Sequence[Layer]) -> float:
        """The share of predictions that change when `layers` are quantised."""
        pairs = zip(self._quantised(layers), self._expected, strict=True)
        return float(np.mean(np.concatenate([predictions(a) != predictions(b) for a, b in pairs])))
