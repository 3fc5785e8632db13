"""Convolutions with what the optimiser fused into them, and those whose channels come last."""

from __future__ import annotations

import onnx_ir as ir

from ..activations import activated
from ..expansion import Expansion
from ..registry import expands

_OWN = ("activation", "activation_params")


@expands("FusedConv")
def expand_convolution(w: Expansion) -> ir.Value:
    """activation(Conv(X, W, B) + Z)."""
    result = w.add("Conv", w.node.inputs[:3], w.attributes(*_OWN))
    return _activated(w, w.sum(result, w.input(3)))


@expands("NhwcConv", "NhwcFusedConv")
def expand_channels_last(w: Expansion) -> ir.Value:
    """The same of images [N, …, C]; weights lie as Conv has them."""
    image = w.needed(0)
    rank = w.rank(image)
    first, last = (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)
    turned = w.transposed(image, *first)
    result = w.add("Conv", [turned, *w.node.inputs[1:3]], w.attributes(*_OWN))
    return _activated(w, w.sum(w.transposed(result, *last), w.input(3)))


def _activated(w: Expansion, value: ir.Value) -> ir.Value:
    attributes = w.node.attributes
    name = attributes["activation"].as_string() if "activation" in attributes else ""
    parameters = (
        list(attributes["activation_params"].as_floats()) if "activation_params" in attributes else []
    )
    return activated(w, value, w.needed(0), name, parameters)
