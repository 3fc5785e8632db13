"""Finding how strips of a stored weight are decoded: `palette_panels.py` beside this file does palettes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...cpu.decoded_panels import StoredStrips
from ..choice import Choice
from ..state import Encoded, Lowering

__all__ = ["ANY", "ZERO", "StoredWeight", "positions", "store_strips"]

ANY = -1
"""A weight that is never used, such as one behind the last output."""
ZERO = -2
"""A weight that must be zero and is not stored."""

Positions = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class StoredWeight:
    """Strips in the pool of weights, and what is left to do with the results.

    `scale` float32 [outputs], or None: results are to be multiplied by it.
    """

    strips: StoredStrips
    format: str
    bytes: int
    scale: np.ndarray | None = None

    def noted(self, choice: Choice) -> Choice:
        """The choice, with the format and the bytes that the kernel reads."""
        return replace(choice, format=self.format, stored_bytes=self.bytes)


@cache
def _serving(format_name: str) -> ModuleType | None:
    name = format_name.replace("-", "_") + "_panels"
    found = (Path(__file__).parent / f"{name}.py").is_file()
    return import_module(f".{name}", __package__) if found else None


def store_strips(
    state: Lowering, name: str, encoded: Encoded | None, strips: Sequence[Positions]
) -> StoredWeight | None:
    """`strips` [inputs, width] of positions in the array that `encoded` decodes to, ANY or ZERO.

    A format's module answers by `store_strips(state, name, encoded, strips)`; None where it has none, or
    cannot store these strips.
    """
    module = _serving(encoded.format.name) if encoded is not None else None
    find: Any = getattr(module, "store_strips", None)
    found: StoredWeight | None = find(state, name, encoded, strips) if find is not None else None
    return found


def positions(encoded: Encoded, shape: tuple[int, ...]) -> Positions:
    """Where each element of a constant of `shape` lies in what `encoded` decodes to (flat)."""
    if encoded.transposed:
        return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape[::-1]).T
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
