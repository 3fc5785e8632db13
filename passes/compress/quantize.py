"""Layers compute in int8: their inputs and weights become integers, by standard Q and DQ nodes.

    Conv(x, W, b) -> Relu -> Conv ...
    DQ(Q(x)) -> Conv(x', DQ(W8), DQ(b32)) -> Relu -> Q -> DQ -> Conv ...

Any runtime runs the result; those that know the pattern multiply integers. Where Q and DQ are put says
passes/quantizing/placement.py, how ranges are chosen passes/quantizing/ranges.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.runtime.errors import OptionError

from ..base import change, node_label, refuse
from ..fuse.fuse_affine import FuseAffine
from ..fuse.fuse_layer_norm import FuseLayerNorm
from ..fuse.fuse_pads import FusePads
from ..layers import LAYER_TYPES, Layer, LayerPass, weighted_layers
from ..quantizing.choosing import Trials
from ..quantizing.dynamic import make_dynamic
from ..quantizing.equalizing import equalize
from ..quantizing.grid import Dtype, Grid
from ..quantizing.histogram import Histogram
from ..quantizing.placement import Coverage, place
from ..quantizing.plan import Activations, Plan
from ..quantizing.ranges import Method
from ..quantizing.refusing import refusal
from ..quantizing.rounding import Rounded, Rounding, round_weight
from ..quantizing.smoothing import smooth, smoothed_values
from ..quantizing.statistics import Statistics, measure, measure_maxima
from ..report import PassReport
from ..shapes import infer_shapes

__all__ = ["Quantize"]

Weighted = Literal["Conv", "Gemm", "MatMul"]


@dataclass(frozen=True, kw_only=True)
class Quantize(LayerPass):
    """Static int8, by ranges that are measured on calibration data, or `dynamic`, by those of each run.

    `layers` are operators: all three, for dynamic ones without Conv unless it is named. `activations` is the
    integers' type, `symmetric` puts zero in its middle; `per_channel` gives each output of a weight its
    scale. `method` chooses the range of activations, `percentile` is that method's share in percent.
    `coverage` says which values are stored as integers. `equalize` moves scales from layer to layer so that
    channels have like ranges, `smooth` from activations to weights by that power of their largest values (0.5
    is usual). `search` tries smaller scales of weights, `compensate` lets weights make up for each other's
    rounding, `correct` mends the mean of outputs by the bias; the last two take `samples` rows that each
    layer reads from the calibration data. `keep` is how many layers stay float, those whose quantisation
    alone changes the outputs most; with `max_drop` as few as keep the share of changed predictions below it.
    `save` writes what was measured to a file, `statistics` reads one in its place.
    """

    dynamic: bool = False
    layers: tuple[Weighted, ...] | None = None
    activations: Dtype = "uint8"
    symmetric: bool = False
    per_channel: bool = True
    method: Method = "squared-error"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    coverage: Coverage = "tables"
    equalize: bool = False
    smooth: Annotated[float, Field(ge=0, le=1)] | None = None
    search: bool = False
    compensate: bool = False
    correct: bool = False
    samples: Annotated[int, Field(ge=16, le=65536)] = 2048
    keep: Annotated[int, Field(ge=0)] = 0
    max_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    statistics: Path | None = None
    save: Path | None = None
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip", "per_channel", "search", "compensate", "correct")

    def check(self, model: ir.Model) -> None:
        """There must be data, and names that exist."""
        super().check(model)
        if self.dynamic:
            return
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
        kept = set[ir.Value]()
        if self.dynamic:
            if self.context.calibration is not None:
                self._smooth(model, users, None, report)
            stored = make_dynamic(model, users, self._rounded(model, found, None))
        else:
            stored, kept = self._static(model, found, users, report)
        for layer in (each for each in found if each.weight not in kept):
            tensor = layer.weight.const_value
            assert tensor is not None
            kind = "one scale for each output" if self.at(layer.node).per_channel else "one scale"
            change(report, layer.node, f"int8, {kind}", tensor.nbytes, stored[str(layer.weight.name)])

    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        kinds = self.layers or (("Gemm", "MatMul") if self.dynamic else LAYER_TYPES)
        own = self.at(layer.node)
        if not own.skip and layer.node.op_type not in kinds:
            return f"the recipe quantises {', '.join(kinds)} only"
        if text := refusal(layer, model, own.skip):
            return text
        attributes = layer.node.attributes
        scaled = any(attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta"))
        return "it has an alpha or beta" if self.dynamic and scaled else ""

    def _static(
        self, model: ir.Model, found: list[Layer], users: list[Layer], report: PassReport
    ) -> tuple[dict[str, int], set[ir.Value]]:
        """Bytes stored by the name of each weight, and the weights that stay float."""
        if self.equalize:
            report.notes.append(f"{equalize(model, users)} pairs of layers were equalised")
        saved = Statistics.load(self.statistics) if self.statistics is not None else None
        maxima = self._smooth(model, users, saved, report)
        plan = self._planned(model, found, users, saved, maxima)
        if kept := self._kept_float(model, plan, users):
            for layer in (each for each in users if each.weight in kept):
                refuse(report, layer.node, "it is among the layers that quantisation hurts most")
            users = [each for each in users if each.weight not in kept]
        return plan.carry_out(model, users), kept

    def _kept_float(self, model: ir.Model, plan: Plan, users: list[Layer]) -> set[ir.Value]:
        """Weights that stay as they are."""
        data = self.context.calibration
        if data is None or not (self.keep or self.max_drop is not None):
            return set()
        trials = Trials(model, plan, users, data.feeds)
        order = trials.order(self.context.each)
        count = self.keep if self.max_drop is None else trials.least_kept(order, self.max_drop)
        return {layer.weight for layer in order[:count]}

    def _smooth(
        self, model: ir.Model, users: list[Layer], saved: Statistics | None, report: PassReport
    ) -> dict[str, Any]:
        """Move scales into weights, and give back by which maxima."""
        if self.smooth is None:
            return {}
        values = smoothed_values(model, users)
        if saved is None:
            assert self.context.calibration is not None
            maxima = measure_maxima(model, values, self.context.calibration)
        else:
            maxima = saved.maxima_of([str(value.name) for value in values], str(self.statistics))
        report.notes.append(f"{smooth(model, users, self.smooth, maxima)} values were smoothed")
        return maxima

    def _planned(
        self,
        model: ir.Model,
        found: list[Layer],
        users: list[Layer],
        saved: Statistics | None,
        maxima: dict[str, Any],
    ) -> Plan:
        how = Activations(self.activations, self.symmetric, self.method, self.percentile, self.coverage)
        placement = place(model, [layer.node for layer in users], self.coverage)
        plan = Plan(how, self._histograms(model, list(placement.readers), saved, maxima))
        plan.weights = self._rounded(model, found, how.grids(placement, plan.histograms))
        return plan

    def _rounded(
        self, model: ir.Model, layers: list[Layer], grids: Mapping[str, Grid] | None
    ) -> dict[str, Rounded]:
        """By the name of each weight; `grids` are those of the values that layers read, if known."""
        names = [node_label(layer.node) for layer in layers]
        rounded = self.context.map(round_weight, self._work(model, layers, grids), names)
        return {str(layer.weight.name): each for layer, each in zip(layers, rounded, strict=True)}

    def _histograms(
        self, model: ir.Model, values: list[ir.Value], saved: Statistics | None, maxima: dict[str, Any]
    ) -> Mapping[str, Histogram]:
        if saved is not None:
            return saved.for_model(model, [str(value.name) for value in values], str(self.statistics))
        assert self.context.calibration is not None
        measured = measure(model, values, self.context.calibration)
        measured.maxima = maxima
        if self.save is not None:
            measured.save(self.save)
        return measured.histograms

    def _work(
        self, model: ir.Model, layers: list[Layer], grids: Mapping[str, Grid] | None
    ) -> Iterator[tuple[Any, ...]]:
        """Arguments of `round_weight` for each layer."""
        how = [self._rounding(layer) for layer in layers]
        reading = [
            layer
            for layer, own in zip(layers, how, strict=True)
            if own.compensate or own.correct or own.search
        ]
        data = self.context.calibration
        rows = data.rows(model, reading, self.samples) if data is not None else iter(())
        for layer, own in zip(layers, how, strict=True):
            tensor = layer.weight.const_value
            assert tensor is not None
            assert layer.node.inputs[0] is not None
            weight = np.ascontiguousarray(layer.outputs_first(tensor.numpy()))
            wanted = data is not None and layer in reading
            grid = grids[str(layer.node.inputs[0].name)] if grids is not None else None
            yield weight, next(rows) if wanted else None, layer.groups, own, grid

    def _rounding(self, layer: Layer) -> Rounding:
        own = self.at(layer.node)
        return Rounding(own.per_channel, own.search, own.compensate, correct=own.correct)
