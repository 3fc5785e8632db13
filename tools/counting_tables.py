"""Counted instructions as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .console import Column, print_table

if TYPE_CHECKING:
    from .counting_kernels import KernelCount

__all__ = ["CLASS_COLUMNS", "print_kernels"]

CLASS_COLUMNS = [
    Column(key, f"{key.replace('_', '-')} M", lambda v: f"{v / 1e6:.2f}", right=True)
    for key in ("total", "multiply_add", "vector", "load", "store", "branch", "other")
]


def print_kernels(kernels: Sequence[KernelCount]) -> None:
    """Kernels in the order of their calls: instructions in millions, shares."""
    from .profile_tables import STEP_COLUMNS

    shares = [
        Column("share", "of all", lambda v: f"{v:.1%}", right=True),
        Column("useful", "useful", lambda v: "" if v is None else f"{v:.0%}", right=True),
    ]
    print_table([*STEP_COLUMNS, *CLASS_COLUMNS, *shares], [kernel.to_dict() for kernel in kernels])
