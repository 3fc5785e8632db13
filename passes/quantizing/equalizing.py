"""Scales move between layers so that channels which share a grid are of like size; the function stays.

With s_i = sqrt(r1_i / r2_i), where r1_i is the largest weight of output i of the first layer and r2_i that of
input i of those that read it, both become sqrt(r1_i r2_i).

Source: Nagel et al., Data-Free Quantization (arXiv:1906.04721), section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..layers import LAYER_TYPES, Layer
from .scaling import Floats, Site, columns, divide, largest, rows_of, sites

__all__ = ["equalize"]

_ROUNDS = 20
_ENOUGH = 1e-3  # relative change of scales at which rounds end


def equalize(model: ir.Model, layers: Sequence[Layer]) -> int:
    """Equalise `layers` in place until scales settle; returns how many pairs there are."""
    found = sites(model, layers, LAYER_TYPES)
    for _ in range(_ROUNDS):
        moved = 0.0
        for site in found:
            scale = _scales(site)
            divide(model, site, scale)
            moved = max(moved, float(np.abs(np.log(scale)).max()))
        if moved < _ENOUGH:
            break
    return len(found)


def _scales(site: Site) -> Floats:
    """What each output of the first layer is divided by; 1 for a channel that is nothing on either side."""
    assert site.layer is not None
    first = largest(rows_of(site.layer))
    second = np.max([largest(columns(reader)) for reader in site.readers], axis=0)
    dead = (first <= 0) | (second <= 0)
    return np.asarray(np.where(dead, 1.0, np.sqrt(np.where(dead, 1.0, first) / np.where(dead, 1.0, second))))
