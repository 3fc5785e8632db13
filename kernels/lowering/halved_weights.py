"""Weights of nine bits, as uint8 less a zero point are, for instructions that multiply int8.

    Σ x · w = Σ x · a + Σ x · b        w = a + b, both int8

Two products four deep take half the time of pairs of int16, of which a product takes two instructions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..cpu.integer_dot import integer_dot
from ..cpu.integer_product import Reach
from ..cpu.isa import Isa
from .integer_panels import Panels

__all__ = ["panels_of"]

Array = np.ndarray[Any, np.dtype[Any]]
_BYTES = (-128, 127)


def panels_of(isa: Isa, activations: str, reach: Reach, matrix: Array) -> Panels:
    """`matrix` (groups, outputs of one, taps, run) as the fastest instruction reads it.

    Halves of weights are read as two taps at one place.
    """
    low, high = int(matrix.min()), int(matrix.max())
    dot, octets = integer_dot(isa, activations, (low, high)), integer_dot(isa, activations, _BYTES)
    small = low >= 2 * _BYTES[0] and high <= 2 * _BYTES[1]
    if dot.weight_dtype == "int8" or octets.depth <= dot.depth or not small:
        return Panels(dot, reach, matrix)
    first = np.clip(matrix, *_BYTES)
    both = np.concatenate([first, matrix - first], axis=2)
    return Panels(octets, replace(reach, taps=((2, 0), *reach.taps)), both)
