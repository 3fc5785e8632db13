"""Finding the kernel for a stored weight: `palette.py` beside this file serves the format `palette`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ...cpu.isa import Isa
from ...cpu.tensor import Tensor
from ..choice import Choice
from ..state import Encoded

__all__ = ["ProductKernel", "product_kernel", "serving"]

ProductKernel = Callable[..., tuple[Tensor, Choice]]
"""`(state, node, source, weights, bias, shape, choice, epilogue) -> (result, choice)`, as the products of
`operators/matmul.py` are: `source` (…, M, K), `weights` (K, N) decoded, `bias` whole vectors of N or None."""


@cache
def serving(format_name: str) -> ModuleType | None:
    """The module for weights of a format, None where there is none."""
    name = format_name.replace("-", "_")
    return (
        import_module(f".{name}", __package__) if (Path(__file__).parent / f"{name}.py").is_file() else None
    )


def product_kernel(isa: Isa, encoded: Encoded | None, rows: int) -> ProductKernel | None:
    """What computes `rows` rows times a stored weight (K, N) without a dense copy; None: no such kernel.

    A module answers by `product_kernel(isa, encoded, rows)`, and by None where another kernel is faster.
    """
    module = serving(encoded.format.name) if encoded is not None and encoded.transposed else None
    find: Any = getattr(module, "product_kernel", None)
    found: ProductKernel | None = find(isa, encoded, rows) if find is not None else None
    return found
