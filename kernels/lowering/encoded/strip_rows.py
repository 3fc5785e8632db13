"""Which outputs strips hold, for formats that store a row of all inputs together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .panels import ANY

__all__ = ["whole_rows"]

Array = npt.NDArray[Any]


def whole_rows(strips: Sequence[Array], inputs: int) -> Array | None:
    """The outputs of each strip [strips, width], ANY behind the last, of a weight [outputs, inputs].

    None where a strip is not all inputs of its outputs, in their order.
    """
    found = []
    for strip in strips:
        if len(strip) != inputs:
            return None
        output = np.where(strip[0] == ANY, ANY, strip[0] // inputs)
        wanted = np.where(output == ANY, ANY, output * inputs + np.arange(inputs)[:, None])
        if not np.array_equal(strip, wanted):
            return None
        found.append(output)
    return np.stack(found)
