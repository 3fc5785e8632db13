"""Weights are rounded to a few bits in tiny groups; those that this would hurt most are kept beside them.

    Conv(x, W)            W float32 [O, I, kh, kw]
    Conv(x, OutliersDecode(SpqrDecode(codes, scales, zeros, grids, unit, shape, form), gaps, values))

SpQR (arXiv:2306.03078): scales and zeros of the groups take a few bits too. With calibration data the columns
are rounded one after another, each making up for the errors of those before it. A convolution in groups is
rounded to the nearest, as its channels read different inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.group_grid import GroupForm

from ..activations import weights_and_rows
from ..base import change, node_label, refuse
from ..grouped_rounding import round_groups
from ..layers import Layer, LayerPass, weighted_layers
from ..report import PassReport
from ..storing import refusal, store_weight

__all__ = ["QuantizeSpqr"]

_ROWS = 4096  # that a layer reads, of the calibration data


@dataclass(frozen=True, kw_only=True)
class QuantizeSpqr(LayerPass):
    """Store weights in the format spqr, with outliers, where that is smaller.

    `bits` of a weight; `group` consecutive inputs share a scale and a zero of `scale_bits` and `zero_bits`,
    whose grid `rows` consecutive outputs share. `outliers` is the share of weights kept as float16.
    """

    bits: Annotated[int, Field(ge=1, le=8)] = 3
    group: Annotated[int, Field(ge=2, le=4096)] = 16
    scale_bits: Annotated[int, Field(ge=1, le=8)] = 3
    zero_bits: Annotated[int, Field(ge=1, le=8)] = 3
    rows: Annotated[int, Field(ge=1, le=4096)] = 16
    outliers: Annotated[float, Field(ge=0, le=0.5)] = 0.01
    min_elements: Annotated[int, Field(ge=0)] = 1024
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = (
        *("skip", "bits", "group", "scale_bits", "zero_bits", "rows", "outliers", "min_elements"),
    )

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Round in place; each layer is changed, or refused with a reason."""
        layers = weighted_layers(model)
        self.check_names(layers)
        report.matched = len(layers)
        found = self.chosen(layers, report, lambda at: self.at(at.node)._refusal(at, model), "rounded")
        names = [node_label(layer.node) for layer in found]
        rounded = list(self.context.map(round_groups, self._work(model, found), names))
        for layer, stored in zip(found, rounded, strict=True):
            tensor = layer.weight.const_value
            assert tensor is not None
            shape = layer.outputs_first(tensor.numpy()).shape
            if stored.nbytes >= tensor.nbytes:
                refuse(
                    report, layer.node, f"it would take {stored.nbytes} bytes, dense takes {tensor.nbytes}"
                )
                continue
            settings = self.at(layer.node)
            detail = f"{settings.bits} bits in groups of {settings.group}, {settings.outliers:.1%} outliers, "
            detail += f"{stored.bits_per_weight(tensor.size):.2f} bits per weight"
            change(report, layer.node, detail, tensor.nbytes, stored.nbytes)
            store_weight(model, layer, stored, shape)

    def _work(self, model: ir.Model, layers: list[Layer]) -> Iterator[tuple[Any, ...]]:
        """Arguments of `round_groups` for each layer."""
        read = weights_and_rows(self.context.calibration, model, layers, _ROWS)
        for layer, (weight, rows) in zip(layers, read, strict=True):
            settings = self.at(layer.node)
            form = GroupForm(
                settings.bits, settings.group, settings.scale_bits, settings.zero_bits, settings.rows
            )
            yield weight, rows, form, settings.outliers

    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        if self.skip:
            return "the recipe skips it"
        if text := refusal(layer, model):
            return text
        tensor = layer.weight.const_value
        assert tensor is not None
        if tensor.size < self.min_elements:
            return f"{tensor.size} weights are too few, the least is {self.min_elements}"
        return "" if np.isfinite(tensor.numpy()).all() else "its weights are not all finite"
