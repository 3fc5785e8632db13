"""Weights that hold few values are stored as indices into a table of them.

    Conv(x, W)            W float32 [O, I, kh, kw] with 16 distinct values
    Conv(x, PaletteDecode(W.indices, W.lut, W.lut_scale, W.scale, W.shape, W.form))

Exact: the decoded weight has every value of the old one. Found are weights with at most 256 distinct values,
the same in blocks between zeros, and whole multiples of a step for each output, as weights of a dequantised
8-bit model are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx_ir as ir
from pydantic import Field

from gossamer.kernels.formats.base import Array

from ..base import change, refuse
from ..clustering.recognizing import recognized_palette
from ..layers import Layer, LayerPass, weighted_layers
from ..report import PassReport
from ..storing import Stored, refusal, store_weight

__all__ = ["EncodePalette"]


@dataclass(frozen=True, kw_only=True)
class EncodePalette(LayerPass):
    """Store weights of few values as palettes where that is smaller, else leave them.

    `min_saving` is the share of its bytes that a weight must save.
    """

    min_saving: Annotated[float, Field(ge=0, lt=1)] = 0.05
    stage: ClassVar[str] = "compress"
    exact: ClassVar[bool] = True
    layer_options: ClassVar[tuple[str, ...]] = ("skip", "min_saving")

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Encode in place; each layer is changed, or refused with a reason."""
        layers = weighted_layers(model)
        self.check_names(layers)
        report.matched = len(layers)
        done: set[ir.Value] = set()
        for layer in layers:
            if layer.weight in done:
                change(report, layer.node, "shares weights that are encoded")
            elif self.at(layer.node)._encode(model, layer, report):
                done.add(layer.weight)

    def _encode(self, model: ir.Model, layer: Layer, report: PassReport) -> bool:
        """Replace the weight by a call, or say why not; whether it was replaced."""
        if reason := "the recipe skips it" if self.skip else refusal(layer, model):
            refuse(report, layer.node, reason)
            return False
        weight = _outputs_first(layer)
        stored = recognized_palette(weight)
        if stored is None:
            refuse(report, layer.node, "it has more than 256 values, which are no whole multiples of a step")
            return False
        if stored.nbytes >= weight.nbytes * (1 - self.min_saving):
            reason = f"it would take {stored.nbytes} bytes, dense takes {weight.nbytes}"
            refuse(report, layer.node, reason)
            return False
        change(report, layer.node, _detail(stored, weight.size), weight.nbytes, stored.nbytes)
        store_weight(model, layer, stored, weight.shape)
        return True


def _outputs_first(layer: Layer) -> Array:
    tensor = layer.weight.const_value
    assert tensor is not None
    return np.ascontiguousarray(layer.outputs_first(tensor.numpy()))


def _detail(stored: Stored, count: int) -> str:
    palette = stored if stored.format == "palette" else stored.parts["values"]
    assert isinstance(palette, Stored)
    form, scale = palette.parts["form"], palette.parts["scale"]
    assert isinstance(form, np.ndarray)
    assert isinstance(scale, np.ndarray)
    kind = f"{form[0]} bits a weight"
    if palette is not stored:
        kind += f" of {form[2]}x1 blocks"
    if scale.size > 1:
        kind += ", a scale for each output"
    return f"{kind}, {stored.bits_per_weight(count):.2f} bits per weight"
