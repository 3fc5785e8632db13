"""Weights become integers or small floats in groups that share a scale; activations stay float.

    MatMul(x, W)    W float32 [K, N]
    MatMul(x, DequantizeLinear(q, scale, zero, axis = 0, block_size = 32))

A group is so many consecutive inputs of one output, of all K = channels x taps. With calibration data, errors
are weighed by the second moment of the input that a weight meets, and those of one input are made up for by
others (passes/clustering/compensation.py); without it, by what most layers' inputs have in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from math import prod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats.base import Array

from ..base import change, node_label, refuse
from ..clustering.inputs import Assumed, Inputs, Measured
from ..layers import Layer, LayerPass, weighted_layers
from ..quantizing_weights.linear import LEAST_OPSET, linear_parts, store_linear
from ..quantizing_weights.rounding import Settings, quantize_weight
from ..report import PassReport
from ..storing import refusal
from ..value_signs import is_rectified

__all__ = ["QuantizeWeights"]

Weighted = Literal["Conv", "Gemm", "MatMul"]
Type = Literal["int8", "int4", "float8-e4m3", "float8-e5m2"]


@dataclass(frozen=True, kw_only=True)
class QuantizeWeights(LayerPass):
    """Round the weights of convolutions and matrix products to `dtype`.

    `group` inputs share a scale, 0 gives each output one. `symmetric` integers have no zero point. `fit`
    searches for ranges of least error, without it they hold the largest weight. `compensate` balances errors
    between inputs, where there is calibration data by `samples` rows that each layer reads; `damping` is the
    share of the mean second moment that is added to each.
    """

    dtype: Type = "int4"
    group: Literal[0, 16, 32, 64, 128, 256] = 32
    symmetric: bool = False
    fit: bool = True
    compensate: bool = True
    damping: Annotated[float, Field(gt=0, le=1)] = 0.01
    samples: Annotated[int, Field(ge=16, le=65536)] = 4096
    layers: tuple[Weighted, ...] = ("Conv", "Gemm", "MatMul")
    min_elements: Annotated[int, Field(ge=0)] = 256
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = (
        *("skip", "dtype", "group", "symmetric", "fit", "compensate", "damping", "min_elements"),
    )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Round in place, several layers at a time; each is changed, or refused with a reason."""
        found = weighted_layers(model)
        self.check_names(found)
        report.matched = len(found)
        layers = self.chosen(found, report, lambda at: self.at(at.node)._refusal(at, model), "rounded")
        names = [node_label(layer.node) for layer in layers]
        # All are rounded before the first is stored: calibration must see the model as it was.
        rounded = list(self.context.map(quantize_weight, self._items(model, layers), names))
        for layer, quantized in zip(layers, rounded, strict=True):
            tensor = layer.weight.const_value
            assert tensor is not None
            parts = linear_parts(layer, quantized)
            if parts.nbytes >= tensor.nbytes:
                reason = f"it would take {parts.nbytes} bytes, dense takes {tensor.nbytes}"
                refuse(report, layer.node, reason)
                continue
            detail = self.at(layer.node)._detail(8 * parts.nbytes / tensor.size)
            change(report, layer.node, detail, tensor.nbytes, parts.nbytes)
            store_linear(model, layer, parts)

    def _detail(self, bits: float) -> str:
        groups = f"groups of {self.group}" if self.group else "each output"
        return f"{self.dtype} with a scale for {groups}, {bits:.2f} bits per weight"

    def _settings(self) -> Settings:
        return Settings(self.dtype, self.group, self.symmetric, self.fit, self.compensate, self.damping)

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

    def _items(self, model: ir.Model, layers: list[Layer]) -> Iterator[tuple[Any, ...]]:
        """Arguments of `quantize_weight` for each layer, made when they are asked for."""
        data = self.context.calibration
        rows = data.rows(model, layers, self.samples) if data is not None else repeat(None)
        for layer in layers:
            weight = _outputs_first(layer)
            yield weight, self.at(layer.node)._settings(), _inputs(layer, weight.shape, next(rows))


def _inputs(layer: Layer, shape: tuple[int, ...], rows: npt.NDArray[np.float32] | None) -> Inputs:
    kernel = shape[2:]
    if rows is not None:
        return Measured(rows, layer.groups, prod(kernel))
    dilations = tuple(layer.node.attributes.get_ints("dilations", [1] * len(kernel)))
    return Assumed(shape[1], kernel, dilations, is_rectified(layer.node.inputs[0]))


def _outputs_first(layer: Layer) -> Array:
    tensor = layer.weight.const_value
    assert tensor is not None
    return np.ascontiguousarray(layer.outputs_first(tensor.numpy()))
