"""A weight that makes up for what the layers before it changed in its inputs, and beside it.

A layer read x and reads y now, on the same pixels; its results are added to r, which is s now. With H = E[y
y'] the weight that gives sums nearest to W x + r is W itself, and what of W (x - y) + (r - s) the new inputs
tell, E[(W (x - y) + r - s) y'] / H.

Source: least squares; the asymmetric calibration of GPTAQ, Li et al. 2025, arXiv:2504.02692.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .grids import Floats

__all__ = ["LARGEST", "Drift", "adapted"]

Singles = npt.NDArray[np.float32]
LARGEST = 4608
"""Inputs up to which the moments of a layer are solved for."""


@dataclass(frozen=True)
class Drift:
    """Rows [n, K] that a layer read `before` and reads `now`; `beside` is r - s [n, O], if there is any."""

    before: Singles
    now: Singles
    beside: Singles | None = None


def adapted(weight: Floats, drift: Drift, damping: float) -> Floats:
    """`weight` [O, K] for what the layer reads now."""
    rows = drift.now.astype(np.float64)
    moments = rows.T @ rows / len(rows)
    mean = float(np.trace(moments)) / len(moments)
    moments += (damping * mean if mean > 0 else 1.0) * np.eye(len(moments))
    lost = (drift.before - drift.now).astype(np.float64) @ weight.T
    if drift.beside is not None:
        lost += drift.beside
    found: Floats = weight + np.linalg.solve(moments, rows.T @ lost / len(rows)).T
    return found
