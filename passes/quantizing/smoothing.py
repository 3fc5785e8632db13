"""Large channels of activations become smaller, and the weights that read them larger; the function stays.

    s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)        x_j / s_j,   w_j s_j

x_j is divided where it is computed: by the scale of a layer norm, a constant factor, or a layer's weights.

Source: Xiao et al., SmoothQuant (arXiv:2211.10438), equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..layers import Layer
from .scaling import Floats, Site, columns, divide, largest, sites

__all__ = ["smooth", "smoothed_values"]

_SOURCES = ("LayerNormalization", "Mul", "MatMul", "Gemm")
_LEAST = 1e-5


def smoothed_values(model: ir.Model, layers: Sequence[Layer]) -> list[ir.Value]:
    """The inputs of layers whose largest values `smooth` asks for, channel by channel along the last axis."""
    values = [site.readers[0].node.inputs[0] for site in sites(model, layers, _SOURCES)]
    return list(dict.fromkeys(value for value in values if value is not None))


def smooth(
    model: ir.Model, layers: Sequence[Layer], alpha: float, maxima: Mapping[str, npt.NDArray[np.float32]]
) -> int:
    """Move scales in place by `maxima`, of each value's channels; returns how many places there are."""
    found = sites(model, layers, _SOURCES)
    for site in found:
        value = site.readers[0].node.inputs[0]
        assert value is not None
        divide(model, site, _scales(site, maxima[str(value.name)].astype(np.float64), alpha))
    return len(found)


def _scales(site: Site, top: Floats, alpha: float) -> Floats:
    weights = np.max([largest(columns(reader)) for reader in site.readers], axis=0)
    scale = np.maximum(top, _LEAST) ** alpha / np.maximum(weights, _LEAST) ** (1 - alpha)
    scale = np.where((top <= 0) | (weights <= 0), 1.0, scale)
    return np.asarray(scale / np.exp(np.log(scale).mean()))  # as large as before, on average
