"""Layers compute in int8: their inputs and weights become integers, by standard Q and DQ nodes.

    Conv(x, W, b) -> Relu -> Conv ...
    DQ(Q(x)) -> Conv(x', DQ(W8), DQ(b32)) -> Relu -> Q -> DQ -> Conv ...

Any runtime runs the result; those that know the pattern multiply integers. Where Q and DQ are put says
passes/quantizing/placement.py, how ranges are chosen passes/quantizing/ranges.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.runtime.errors import OptionError

from ..base import change, node_label
from ..fuse.fuse_affine import FuseAffine
from ..fuse.fuse_layer_norm import FuseLayerNorm
from ..fuse.fuse_pads import FusePads
from ..layers import Layer, LayerPass, weighted_layers
from ..quantizing.grid import Dtype, Grid, activation_grid, quantize_rows, weight_grid
from ..quantizing.histogram import Histogram
from ..quantizing.inserting import quantize_bias, quantize_value, store_integers
from ..quantizing.placement import Coverage, Placement, place
from ..quantizing.ranges import Method, range_of
from ..quantizing.statistics import Statistics, measure
from ..report import PassReport
from ..shapes import infer_shapes

__all__ = ["Quantize"]

_LEAST_OPSET = 13  # DequantizeLinear with one scale for each channel


@dataclass(frozen=True, kw_only=True)
class Quantize(LayerPass):
    """Static int8: ranges of activations are measured on calibration data.

    `activations` is the integers' type, `symmetric` puts zero in its middle; `per_channel` gives each output
    of a weight its scale. `method` chooses the range of activations, `percentile` is that method's share in
    percent. `coverage` says which values are stored as integers. `save` writes what was measured to a file,
    `statistics` reads one in place of calibration data.
    """

    activations: Dtype = "uint8"
    symmetric: bool = False
    per_channel: bool = True
    method: Method = "min-max"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    coverage: Coverage = "stored"
    statistics: Path | None = None
    save: Path | None = None
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip", "per_channel")

    def check(self, model: ir.Model) -> None:
        """There must be data, and names that exist."""
        super().check(model)
        if self.context.calibration is None and self.statistics is None:
            raise OptionError(
                "static quantisation measures ranges on sample inputs",
                where=self.pass_name(),
                expected="--calibrate FILE.npz|DIR, or --set quantize.statistics=FILE.npz",
                got="neither",
                advice="the recipe int8-dynamic needs no data",
            )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Quantise in place; each layer is changed, or refused with a reason."""
        for step in (FuseAffine(), FusePads(), FuseLayerNorm()):
            step.apply(model, PassReport(step.pass_name(), step.stage, exact=True))
        infer_shapes(model)
        layers = weighted_layers(model)
        self.check_names(layers)
        report.matched = len(layers)
        found = self.chosen(layers, report, lambda at: self._refusal(at, model), "quantised")
        weights = {layer.weight for layer in found}
        users = [layer for layer in layers if layer.weight in weights]
        if not users:
            return
        placement = place(model, [layer.node for layer in users], self.coverage)
        grids = self._grids(placement, self._histograms(model, placement))
        scales = {layer.node: grids[layer.node.inputs[0]].scale for layer in users if layer.node.inputs[0]}
        for value, readers in placement.readers.items():
            root = placement.root(value)
            quantize_value(model.graph, value, sorted(readers, key=_place), grids[value], str(root.name))
        for layer in found:
            self._store(model, layer, [user for user in users if user.weight is layer.weight], scales, report)
        report.notes.append(f"{len(placement.readers)} values are stored as {self.activations}")

    def _histograms(self, model: ir.Model, placement: Placement) -> dict[str, Histogram]:
        names = [str(value.name) for value in placement.readers]
        if self.statistics is not None:
            found = Statistics.load(self.statistics)
            return dict(found.for_model(model, names, str(self.statistics)))
        assert self.context.calibration is not None
        measured = measure(model, list(placement.readers), self.context.calibration)
        if self.save is not None:
            measured.save(self.save)
        return measured.histograms

    def _grids(self, placement: Placement, histograms: dict[str, Histogram]) -> dict[ir.Value | None, Grid]:
        """Of every value, one object for those that share it."""
        grids = dict[ir.Value | None, Grid]()
        for group in placement.groups():
            joint = Histogram()
            for value in group:
                joint.merge(histograms[str(value.name)])
            low, high = range_of(joint, self.method, self.percentile)
            grid = activation_grid(low, high, self.activations, symmetric=self.symmetric)
            grids.update(dict.fromkeys(group, grid))
        return grids

    def _store(
        self,
        model: ir.Model,
        layer: Layer,
        users: list[Layer],
        scales: dict[ir.Node, np.ndarray],
        report: PassReport,
    ) -> None:
        tensor = layer.weight.const_value
        assert tensor is not None
        own = self.at(layer.node)
        rows = np.ascontiguousarray(layer.outputs_first(tensor.numpy()))
        grid = weight_grid(rows, per_channel=own.per_channel)
        stored = store_integers(model.graph, layer, quantize_rows(rows, grid), grid)
        for user in users:
            quantize_bias(model.graph, user, float(scales[user.node]), grid.scale)
        kind = "one scale for each output" if own.per_channel else "one scale"
        change(report, layer.node, f"int8, {kind}", tensor.nbytes, stored)

    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        if self.at(layer.node).skip:
            return "the recipe skips it"
        if (opset := model.opset_imports.get("", 0)) < _LEAST_OPSET:
            return f"the model is at opset {opset}, scales for each channel need {_LEAST_OPSET}"
        if text := layer.reason_not_constant():
            return text
        tensor, data = layer.weight.const_value, layer.node.inputs[0]
        assert tensor is not None
        if tensor.dtype != ir.DataType.FLOAT or tensor.size == 0:
            return f"its weights are {tensor.dtype.name} {list(tensor.shape)}, not float32"
        if data is None or data.const_value is not None or data.dtype != ir.DataType.FLOAT:
            return "its input is not a float32 value that is computed"
        if layer.node.attributes.get_int("transA", 0):
            return "its input is transposed"
        return "" if np.isfinite(tensor.numpy()).all() else "its weights are not all finite"


def _place(use: tuple[ir.Node, int]) -> tuple[str, int]:
    return node_label(use[0]), use[1]
