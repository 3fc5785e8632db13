"""Passes that store weights exactly, in a format, where that is smaller."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import onnx_ir as ir

from .base import change, refuse
from .layers import Layer, LayerPass, weighted_layers
from .report import PassReport

__all__ = ["EncodingPass"]


@dataclass(frozen=True, kw_only=True)
class EncodingPass(LayerPass):
    """One weight after the other is encoded, or refused with a reason."""

    def apply(self, model: ir.Model, report: PassReport) -> None:
        """Encode in place, one weight at a time; each layer is changed, or refused with a reason."""
        layers = weighted_layers(model)
        self.check_names(layers)
        report.matched = len(layers)
        done: set[ir.Value] = set()
        for layer in layers:
            settings = self.at(layer.node)
            if layer.weight in done:
                change(report, layer.node, "shares weights that are encoded")
            elif reason := settings._refusal(layer, model):
                refuse(report, layer.node, reason)
            else:
                settings._encode(model, layer, report)
                done.add(layer.weight)

    @abstractmethod
    def _refusal(self, layer: Layer, model: ir.Model) -> str:
        """Why the weight stays as it is; empty where it is encoded."""

    @abstractmethod
    def _encode(self, model: ir.Model, layer: Layer, report: PassReport) -> None:
        """Replace the weight by a call, and report it."""
