"""Weights become integers or small floats in groups that share a scale; activations stay float.

    MatMul(x, W)    W float32 [K, N]
    MatMul(x, DequantizeLinear(q, scale, zero, axis = 0, block_size = 32))

A group is so many consecutive inputs of one output, of all K = channels x taps. With calibration data, errors
are weighed by the second moment of the input that a weight meets, and those of one input are made up for by
others (passes/clustering/compensation.py); without it, by what most layers' inputs have in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, repeat
from math import prod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats.base import Array

from ..base import change, node_label, refuse
from ..clustering.inputs import Assumed, Inputs, Measured
from ..layers import Layer, LayerPass, first_layers, last_layers, weighted_layers
from ..quantizing.refusing import ends_in_log
from ..quantizing_weights.balancing import balance
from ..quantizing_weights.drift import LARGEST, Drift
from ..quantizing_weights.grouping import Quantized
from ..quantizing_weights.linear import LEAST_OPSET
from ..quantizing_weights.powers import Powers
from ..quantizing_weights.residual import reading_residuals, residual_of
from ..quantizing_weights.rounding import Settings, quantize_weight
from ..quantizing_weights.sensitive import most_sensitive
from ..quantizing_weights.storing import storage
from ..report import PassReport
from ..storing import refusal
from ..value_signs import is_rectified

__all__ = ["QuantizeWeights"]

Rows = npt.NDArray[np.float32]
Weighted = Literal["Conv", "Gemm", "MatMul"]
Type = Literal["int8", "int4", "int3", "int2", "float8-e4m3", "float8-e5m2", "float4-e2m1", "int4-in-int8"]
_DUAL_GRAIN = "int4-in-int8"
_MORE_BITS = 8


@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(LayerPass):
    """Round the weights of convolutions and matrix products to `dtype`.

    `group` inputs share a scale, 0 gives each output one. `symmetric` integers have no zero point. `fit`
    searches for ranges of least error, without it they hold the largest weight. `powers` makes scales powers
    of two, `each` or `apart` from the largest of their output. `compensate` balances errors between inputs,
    where there is calibration data by `samples` rows that each layer reads; `damping` is the share of the
    mean second moment that is added to each. `sequential` makes up for what rounding the layers before did
    to a layer's inputs too, for which the model runs once for each. `balance` searches for scales that move
    from activations to weights, given such data. `int4-in-int8` are integers of 4 bits whose groups' scales
    are integers as well, so that they decode to int8 with a scale for each output.
    `first`, `last`, `depthwise` and `spectral` are another `dtype` for layers that see the model's inputs or
    give its outputs, for convolutions of one channel a group, and for layers of whose results a logarithm is
    taken; options for single nodes or operators win. With calibration data int8 is also for the layers whose
    rounding changes the outputs most, which may hold a share of `sensitive` of all weights.
    """

    dtype: Type = "int4"
    group: Literal[0, 16, 32, 64, 128, 256] = 32
    symmetric: bool = False
    fit: bool = True
    powers: Powers = "free"
    compensate: bool = True
    sequential: bool = True
    balance: bool = False
    damping: Annotated[float, Field(gt=0, le=1)] = 0.01
    samples: Annotated[int, Field(ge=16, le=65536)] = 4096
    layers: tuple[Weighted, ...] = ("Conv", "Gemm", "MatMul")
    first: Type | None = None
    last: Type | None = None
    depthwise: Type | None = None
    spectral: Type | None = None
    sensitive: Annotated[float, Field(ge=0, lt=1)] = 0.0
    min_elements: Annotated[int, Field(ge=0)] = 256
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = (
        *("skip", "dtype", "group", "symmetric", "fit", "powers", "compensate", "damping", "min_elements"),
    )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Round in place, several layers at a time; each is changed, or refused with a reason."""
        self.check_names(weighted_layers(model))
        self._balance(model, report)
        found = weighted_layers(model)
        report.matched = len(found)
        settings = self._all_settings(model, found)
        layers = self.chosen(found, report, lambda at: self.at(at.node)._refusal(at, model), "rounded")
        settings.update(self._more_bits(model, layers, settings))
        source = model.clone() if self._drifts else model
        before = self._rows(source, layers) if self._drifts else repeat(None)
        for level in _levels(layers) if self._drifts else [layers]:
            names = [node_label(layer.node) for layer in level]
            # All are rounded before the first is stored: calibration must see the model as it was.
            work = self._items(model, level, source, before, settings)
            rounded = list(self.context.map(quantize_weight, work, names))
            for layer, quantized in zip(level, rounded, strict=True):
                _store(model, layer, quantized, settings[layer], report)

    def _balance(self, model: ir.Model, report: PassReport) -> None:
        """Move scales from activations to weights where that makes rounding cost less."""
        data = self.context.calibration
        if data is None or not self.balance:
            return
        layers = [at for at in weighted_layers(model) if not self.at(at.node)._refusal(at, model)]
        settings = self._all_settings(model, layers)

        def rounded(layer: Layer, weight: Rows) -> Rows:
            plain = replace(settings[layer], compensate=False, fit=False)
            return quantize_weight(weight, plain).decode()

        flat = [layer for layer in layers if layer.node.op_type != "Conv"]
        moved = balance(model, flat, data, self.samples, rounded)
        report.notes.append(f"values scaled so that rounding costs less: {moved}")

    def _more_bits(
        self, model: ir.Model, layers: list[Layer], settings: dict[Layer, Settings]
    ) -> dict[Layer, Settings]:
        """int8 for the sensitive layers."""
        data = self.context.calibration
        open_to = [layer for layer in layers if settings[layer].grid.bits < _MORE_BITS]
        if data is None or not self.sensitive or not open_to:
            return {}
        rounded = (
            quantize_weight(_outputs_first(layer), replace(settings[layer], compensate=False)).decode()
            for layer in open_to
        )
        found = most_sensitive(model, open_to, rounded, data.feeds, self.sensitive)
        return {layer: self.at(layer.node)._settings(layer, "int8") for layer in found}

    @property
    def _drifts(self) -> bool:
        return self.sequential and self.context.calibration is not None

    def _all_settings(self, model: ir.Model, found: list[Layer]) -> dict[Layer, Settings]:
        first, last = first_layers(model, found), last_layers(model, found)
        return {
            layer: self.at(layer.node)._settings(
                layer, self._special(layer, layer.node in first, layer.node in last)
            )
            for layer in found
        }

    def _special(self, layer: Layer, first: bool, last: bool) -> Type | None:
        """The type of a layer for its place or kind; none where options are given for it."""
        if self.at(layer.node).dtype != self.dtype:
            return None
        shape = layer.weight.shape
        depthwise = layer.groups > 1 and shape is not None and shape[1] == 1
        options = (
            *((first, self.first), (last, self.last), (depthwise, self.depthwise)),
            (self.spectral is not None and ends_in_log(layer), self.spectral),
        )
        return next((dtype for holds, dtype in options if holds and dtype is not None), None)

    def _settings(self, layer: Layer, special: Type | None) -> Settings:
        dtype = self.dtype if special is None else special
        dual = dtype == _DUAL_GRAIN
        # beside weights that products of integers read, and for convolutions, 8 bits have one scale an output
        whole = special == "int8" and (self.dtype == _DUAL_GRAIN or layer.node.op_type == "Conv")
        return Settings(
            "int4" if dual else dtype,
            0 if whole else self.group,
            self.symmetric or (dtype == "int8" and special is not None),
            self.fit,
            self.compensate,
            self.damping,
            self.powers,
            dual,
        )

    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        if self.skip:
            return "the recipe skips it"
        if layer.node.op_type not in self.layers:
            return f"the recipe takes {', '.join(self.layers)} only"
        if text := refusal(layer, model):
            return text
        if model.opset_imports.get("", 0) < LEAST_OPSET:
            return f"the model is at opset {model.opset_imports.get('')}, groups need {LEAST_OPSET}"
        tensor = layer.weight.const_value
        assert tensor is not None
        if tensor.size < self.min_elements:
            return f"{tensor.size} weights are too few, the least is {self.min_elements}"
        return "" if np.isfinite(tensor.numpy()).all() else "some of its weights are not finite"

    def _rows(self, model: ir.Model, layers: list[Layer]) -> Iterator[Rows | None]:
        """What each of `layers` reads in `model`, by the names of their nodes."""
        data = self.context.calibration
        if data is None:
            return repeat(None)
        nodes = {node.name: node for node in model.graph}
        own = [replace(layer, node=nodes[layer.node.name]) for layer in layers]
        return data.rows(model, own, self.samples)

    def _items(
        self,
        model: ir.Model,
        layers: list[Layer],
        source: ir.Model,
        before: Iterator[Rows | None],
        settings: dict[Layer, Settings],
    ) -> Iterator[tuple[Any, ...]]:
        """Arguments of `quantize_weight` for each layer, made when they are asked for."""
        now = self._rows(model, layers)
        for layer in layers:
            weight, rows, were = _outputs_first(layer), next(now), next(before)
            drift = None
            if rows is not None and were is not None and layer.groups == 1 and rows.shape[1] <= LARGEST:
                drift = Drift(were, rows, self._beside(source, model, layer))
            yield weight, settings[layer], _inputs(layer, weight.shape, rows), drift

    def _beside(self, source: ir.Model, model: ir.Model, layer: Layer) -> Rows | None:
        """By how much what is added to the layer's results was more in `source` than it is in `model`."""
        data = self.context.calibration
        assert data is not None
        if residual_of(layer) is None:
            return None
        found = []
        for each in (source, model):
            node = next(node for node in each.graph if node.name == layer.node.name)
            with reading_residuals([replace(layer, node=node)]) as readers:
                found += list(data.rows(each, readers, self.samples))
        gap: Rows = found[0] - found[1]
        return gap


def _levels(layers: list[Layer]) -> Iterator[list[Layer]]:
    """Layers in their order, those next to each other that read the same value together."""
    for _, same in groupby(layers, key=lambda layer: id(layer.node.inputs[0])):
        yield list(same)


def _store(
    model: ir.Model, layer: Layer, quantized: Quantized, settings: Settings, report: PassReport
) -> None:
    tensor = layer.weight.const_value
    assert tensor is not None
    kept = storage(layer, quantized)
    if kept.nbytes >= tensor.nbytes:
        refuse(report, layer.node, f"it would take {kept.nbytes} bytes, dense takes {tensor.nbytes}")
        return
    groups = f"groups of {quantized.group}" if settings.group else "each output"
    bits = 8 * kept.nbytes / tensor.size
    name = _DUAL_GRAIN if settings.dual_grain else settings.dtype
    detail = f"{name} with a scale for {groups}, {bits:.2f} bits per weight"
    change(report, layer.node, detail, tensor.nbytes, kept.nbytes)
    kept.write(model, layer)


def _inputs(layer: Layer, shape: tuple[int, ...], rows: Rows | None) -> Inputs:
    kernel = shape[2:]
    if rows is not None:
        return Measured(rows, layer.groups, prod(kernel))
    dilations = tuple(layer.node.attributes.get_ints("dilations", [1] * len(kernel)))
    return Assumed(shape[1], kernel, dilations, is_rectified(layer.node.inputs[0]))


def _outputs_first(layer: Layer) -> Array:
    tensor = layer.weight.const_value
    assert tensor is not None
    return np.ascontiguousarray(layer.outputs_first(tensor.numpy()))
