"""A format stores a weight in packed arrays; a model-local ONNX function decodes it.

The function's body is standard ONNX, so any runtime runs a compressed file as it is; the compiler knows the
function by its name and never materialises the weight. A format is one file in this folder, found by its
name: `block_sparse.py` is `block-sparse`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from gossamer.runtime.errors import OptionError, nearest

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "DECODED_LIMIT",
    "DOMAIN",
    "FUNCTION_OPSET",
    "Array",
    "Format",
    "find_format",
    "format_names",
    "format_of_operator",
    "require_finite_float32",
]

Array = npt.NDArray[Any]
DOMAIN = "gossamer"
"""Domain of every format's function."""
FUNCTION_OPSET = 21
"""The opset of converted files, and the one that functions are written in."""
DECODED_LIMIT = 2**31
"""Bytes that one decoded weight may take: a few packed bytes must not ask for terabytes."""


class Format(ABC):
    """How one weight array is stored; stateless, so one instance serves everybody.

    `operator` names the ONNX function and `parts` its inputs, in order.
    """

    name: ClassVar[str]
    operator: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    summary: ClassVar[str]

    @abstractmethod
    def encode(self, array: Array, **options: Any) -> dict[str, Array]:
        """The packed arrays of `array`, by part name in the order of the function's inputs."""

    @abstractmethod
    def decode(self, parts: Mapping[str, Array]) -> Array:
        """The array that `parts` store, exactly. Raises ModelError where they contradict each other."""

    @abstractmethod
    def function(self, opset: int = FUNCTION_OPSET) -> ir.Function:
        """The ONNX function that decodes, its body in standard operators of `opset`."""

    def stored_bytes(self, parts: Mapping[str, Array]) -> int:
        """Bytes of all the parts."""
        return sum(part.nbytes for part in parts.values())

    def bits_per_weight(self, parts: Mapping[str, Array], shape: tuple[int, ...]) -> float:
        """Bits really stored for each element of the decoded `shape`."""
        return 8 * self.stored_bytes(parts) / max(1, int(np.prod(shape, dtype=np.int64)))


@cache
def format_names() -> tuple[str, ...]:
    """Names of every format, sorted."""
    files = Path(__file__).parent.glob("*.py")
    return tuple(sorted(f.stem.replace("_", "-") for f in files if f.stem not in ("__init__", "base")))


@cache
def find_format(name: str) -> Format:
    """The format called `name`. Raises OptionError naming the nearest."""
    if name not in format_names():
        raise OptionError(
            "unknown format",
            where=name,
            expected="one of " + ", ".join(format_names()),
            advice=nearest(name, format_names()),
        )
    module = import_module(f".{name.replace('-', '_')}", __package__)
    (kind,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Format) and value.__module__ == module.__name__
    )
    found: Format = kind()
    return found


def format_of_operator(operator: str) -> Format | None:
    """The format whose function is called `operator` in the domain `gossamer`, else None."""
    return next((f for f in map(find_format, format_names()) if f.operator == operator), None)


def require_finite_float32(format_name: str, array: Array) -> None:
    """Raises OptionError unless `array` is what most formats store: finite float32 of rank 2 or more."""
    if array.dtype != np.float32 or array.ndim < 2 or array.size == 0 or not np.isfinite(array).all():
        raise OptionError(
            f"{format_name} cannot store this array",
            expected="finite float32 of rank 2 or more with elements",
            got=f"{array.dtype} {list(array.shape)}",
        )
