"""Kinds of factors, one file each, found by its name: `svd.py` is the family `svd`.

A module offers `curve(problem) -> Curve | None`, what factors of every size would cost and lose, and
`factorise(problem, size, basis) -> Factors`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from ..curve import Curve
from ..factors import AnyFactors
from ..problem import Problem, Single

__all__ = ["Family", "family_names", "find_family"]


class Family(Protocol):
    """What a module of this folder offers."""

    def curve(self, problem: Problem) -> Curve | None:
        """The sizes that factors of `problem` may have; None where this family has none."""

    def factorise(self, problem: Problem, size: tuple[int, ...], basis: Single | None) -> AnyFactors:
        """Factors of one of a curve's sizes; `basis` is the curve's, None where `problem` is another."""


@cache
def family_names() -> tuple[str, ...]:
    """Names of every family, sorted."""
    files = Path(__file__).parent.glob("[a-z]*.py")
    return tuple(sorted(file.stem.replace("_", "-") for file in files))


def find_family(name: str) -> Family:
    """The family called `name`, which is one of `family_names()`."""
    return cast(Family, import_module(f".{name.replace('-', '_')}", __package__))
