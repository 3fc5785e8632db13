"""A weight that makes up for what the layers before it changed in its inputs.

A layer read x and reads y now, on the same pixels. With H = E[y y'] the weight that gives outputs nearest to
W x is W E[x y'] / H: W itself, and what of W (x - y) the new inputs tell.

Source: least squares; the asymmetric calibration of GPTAQ, Li et al. 2025, arXiv:2504.02692.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .grids import Floats

__all__ = ["LARGEST", "adapted"]

Singles = npt.NDArray[np.float32]
LARGEST = 4608
"""Inputs up to which the moments of a layer are solved for."""


def adapted(weight: Floats, before: Singles, now: Singles, damping: float) -> Floats:
    """`weight` [O, K] for rows [n, K] that a layer read `before` and reads `now`."""
    rows = now.astype(np.float64)
    moments = rows.T @ rows / len(rows)
    mean = float(np.trace(moments)) / len(moments)
    moments += (damping * mean if mean > 0 else 1.0) * np.eye(len(moments))
    lost = weight @ (before - now).astype(np.float64).T @ rows / len(rows)
    found: Floats = weight + np.linalg.solve(moments, lost.T).T
    return found
