"""What is known of a model before it is quantised, and the quantising itself.

A plan names values, weights and layers, so that it can be carried out on any copy of the model and for any
part of the layers: that is how layers are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from ..base import node_label
from ..layer_bias import shift_bias, takes_bias
from ..layers import Layer
from .grid import Dtype, Grid, activation_grid
from .histogram import Histogram
from .inserting import quantize_bias, quantize_value, store_integers
from .placement import Coverage, Placement, place
from .ranges import Method, range_of
from .rounding import Rounded

__all__ = ["Activations", "Plan"]


@dataclass(frozen=True)
class Activations:
    """How activations are stored, and how their ranges follow from what was measured."""

    dtype: Dtype = "uint8"
    symmetric: bool = False
    method: Method = "min-max"
    percentile: float = 99.99
    coverage: Coverage = "tables"

    def grids(self, placement: Placement, histograms: Mapping[str, Histogram]) -> dict[str, Grid]:
        """By the name of each value that was measured; one object for those that share it."""
        grids = dict[str, Grid]()
        for group in placement.groups():
            joint = Histogram()
            names = [str(value.name) for value in group if str(value.name) in histograms]
            for name in names:
                joint.merge(histograms[name])
            low, high = range_of(joint, self.method, self.percentile)
            grid = activation_grid(low, high, self.dtype, symmetric=self.symmetric)
            grids.update(dict.fromkeys(names, grid))
        return grids


@dataclass
class Plan:
    """Histograms by the names of values, and rounded weights by the names of weights."""

    activations: Activations
    histograms: Mapping[str, Histogram]
    weights: dict[str, Rounded] = field(default_factory=dict)

    def carry_out(self, model: ir.Model, layers: Sequence[Layer]) -> dict[str, int]:
        """Quantise `layers` of `model` in place; bytes stored by the name of each weight."""
        placement = place(model, [layer.node for layer in layers], self.activations.coverage)
        grids = self.activations.grids(placement, self.histograms)
        read = {layer.node: grids[str(layer.node.inputs[0].name)] for layer in layers if layer.node.inputs[0]}
        for value, readers in placement.readers.items():
            if (grid := grids.get(str(value.name))) is not None:
                name = str(placement.root(value).name)
                quantize_value(model.graph, value, sorted(readers, key=_place), grid, name)
        return self._store(model, layers, read)

    def _store(
        self, model: ir.Model, layers: Sequence[Layer], read: Mapping[ir.Node, Grid]
    ) -> dict[str, int]:
        stored = dict[str, int]()
        for weight, users in _by_weight(layers).items():
            rounded = self.weights[str(weight.name)]
            stored[str(weight.name)] = store_integers(model.graph, users[0], rounded.integers, rounded.grid)
            if rounded.shift is not None and takes_bias(users[0]):
                shift_bias(model, users[0], rounded.shift)
            for layer in users:
                quantize_bias(model.graph, layer, float(read[layer.node].scale), rounded.grid.scale)
        return stored


def _by_weight(layers: Iterable[Layer]) -> dict[ir.Value, list[Layer]]:
    found: dict[ir.Value, list[Layer]] = {}
    for layer in layers:
        found.setdefault(layer.weight, []).append(layer)
    return found


def _place(use: tuple[ir.Node, int]) -> tuple[str, int]:
    return node_label(use[0]), use[1]
