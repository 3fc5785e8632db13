"""The one table of tolerances: how far a result may be from what the operator is defined to give.

A tolerance is the largest difference allowed in units of a scale. Where the reference is computed in float64
beside its magnitudes (`conformance/references`), the scale of an element is the sum of the magnitudes of the
terms it is made of, so that cancellation is neither forgiven nor blamed on the kernel. Where onnxruntime is
the reference, it is the spread of the expected values. Every operator has DEFAULT, or a bound and its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.runtime.comparing import tensor_error

__all__ = ["require_agreement", "tolerance"]

Array = np.ndarray[Any, np.dtype[Any]]
DEFAULT = 2e-6  # some 30 roundings: float32 sums in another order, polynomials good to a few units


@dataclass(frozen=True)
class Bound:
    """A bound of its own and why the operator needs it."""

    limit: float
    reason: str


_TABLE = {
    "Exp": Bound(1e-6, "spans 80 powers of ten, so that an error below the largest results does not show"),
    "Resize": Bound(5e-6, "coordinates are rounded to float32 before they become weights"),
}


def tolerance(operator: str) -> float:
    """The bound of an ONNX operator, by its name."""
    found = _TABLE.get(operator)
    return DEFAULT if found is None else found.limit


def require_agreement(got: Array, expected: Array, operator: str = "") -> None:
    """Raises AssertionError where `got` is further from `expected` than the operator's bound, in spreads."""
    error = tensor_error(expected, got)
    assert error.relative <= tolerance(operator), f"{operator} {error}"
