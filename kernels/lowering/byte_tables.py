"""Functions of one 8-bit integer as tables of 256, computed here.

    q2 = Q(x · σ(x)),  x = DQ(q1)        q2 = table[q1]

Whatever lies between two roundings of one value (functions, scales, constants, further roundings) is one such
function, if it reads nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..byte_functions import FUNCTIONS
from ..cpu.lazy import Elementwise, Fill, Lazy

__all__ = ["byte_table", "rounded_before"]

Array = npt.NDArray[Any]
BYTES = ("int8", "uint8")


def byte_table(tree: Lazy, source: Lazy) -> Array | None:
    """`tree`, a rounding to 8 bits, for each byte that `source` may be, in the order of unsigned bytes.

    None where it depends on something else, or on a function that has no table.
    """
    if tree.dtype not in BYTES or source.dtype not in BYTES:
        return None
    codes = np.arange(256, dtype=np.uint8).view(source.dtype)
    found = _Evaluation(source, codes, {}).value(tree)
    return None if found is None else found.astype(tree.dtype)


def rounded_before(tree: Lazy) -> Elementwise | None:
    """The earliest rounding to 8 bits that `tree` is a function of (see `byte_table`); None without one."""
    roundings = {id(part): part for part in _parts(tree) if part is not tree and _is_rounding(part)}
    found = [part for part in roundings.values() if byte_table(tree, part) is not None]
    return min(found, key=lambda part: sum(1 for _ in _parts(part)), default=None)


def _parts(tree: Lazy) -> Iterator[Elementwise]:
    """Elementwise functions in `tree`, itself included."""
    if isinstance(tree, Elementwise):
        yield tree
    for part in tree.parts():
        yield from _parts(part)


def _is_rounding(tree: Elementwise) -> bool:
    return tree.function == "Quantize" and tree.dtype in BYTES


@dataclass
class _Evaluation:
    """Values of a tree's parts, where `source` is `codes`; None is what cannot be known."""

    source: Lazy
    codes: Array
    known: dict[int, Array | None]

    def value(self, tree: Lazy) -> Array | None:
        if tree is self.source:
            return self.codes
        if isinstance(tree, Fill):
            return np.asarray(tree.value, tree.dtype)
        if not isinstance(tree, Elementwise) or tree.function not in FUNCTIONS:
            return None
        if id(tree) not in self.known:
            self.known[id(tree)] = self._computed(tree)
        return self.known[id(tree)]

    def _computed(self, tree: Elementwise) -> Array | None:
        values = []
        for part in tree.args:
            value = self.value(part)
            if value is None:
                return None
            values.append(value)
        return FUNCTIONS[tree.function](values, dict(tree.options))
