"""Inputs that matter get larger weights, and what computes them smaller results: the function stays.

    s_k = E[x_k^2] ^ (alpha / 2)        x_k / s_k,   w_k s_k

Rounding then hurts weights of strong inputs less. Of several alpha the one of least error of the outputs is
taken, 0 included; x_k is divided where it is computed: by the scale of a layer norm, a constant factor, or a
layer's weights.

Source: AWQ, Lin et al. 2023, arXiv:2306.00978, equation 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..activations import Calibration
from ..layers import Layer
from ..quantizing.scaling import Site, divide, rows_of, sites
from .grids import Floats

__all__ = ["balance"]

Singles = npt.NDArray[np.float32]
Round = Callable[[Layer, Singles], Singles]
"""A layer's weight, outputs first, rounded."""
_SOURCES = ("LayerNormalization", "Mul", "MatMul", "Gemm")
_ALPHAS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)


def balance(model: ir.Model, layers: Sequence[Layer], data: Calibration, samples: int, rounded: Round) -> int:
    """Move scales in place, so that `rounded` costs `layers` less; returns in how many places they moved."""
    moved = 0
    for site in sites(model, layers, _SOURCES):
        rows = next(iter(data.rows(model, site.readers[:1], samples))).astype(np.float64)
        moments = rows.T @ rows / max(1, len(rows))
        scale = _best(site, moments, rounded)
        if scale is not None:
            divide(model, site, scale)
            moved += 1
    return moved


def _best(site: Site, moments: Floats, rounded: Round) -> Floats | None:
    """Scales [C]; None where nothing is better than none."""
    power = np.sqrt(np.diag(moments))
    power = np.where(power > 0, power, power.max() or 1.0)
    best, found = np.inf, None
    for alpha in _ALPHAS:
        scale = power**alpha
        scale /= np.exp(np.log(scale).mean())
        error = sum(_error(reader, scale, moments, rounded) for reader in site.readers)
        if error < best:
            best, found = error, scale if alpha else None
    return found


def _error(layer: Layer, scale: Floats, moments: Floats, rounded: Round) -> float:
    """Mean squared error of the layer's outputs."""
    weight = rows_of(layer)
    gaps = rounded(layer, (weight * scale).astype(np.float32)) / scale - weight
    return float(np.einsum("ok,kl,ol->", gaps, moments, gaps, optimize=True))
