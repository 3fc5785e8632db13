"""What an operator is defined to give, in float64, with the error that float32 arithmetic may make."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..tolerances import tolerance

__all__ = ["Array", "Attributes", "Bounded", "defines", "exact", "reference"]

Array = np.ndarray[Any, np.dtype[Any]]
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Bounded:
    """`value`: float64, or an integer type; `error`: the largest difference allowed, float64."""

    value: Array
    error: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> str:
        """The type that the operator gives: float32 for float64 references."""
        return "float32" if self.value.dtype == np.float64 else self.value.dtype.name

    def rounded(self, operator: str, scale: Array) -> Bounded:
        """The same with the operator's own error: its tolerance in units of `scale`."""
        return Bounded(self.value, self.error + tolerance(operator) * np.abs(scale))

    def worst(self, got: Array) -> float:
        """The largest difference in units of the bound; infinite where a value is not a number."""
        difference = np.abs(got.astype(np.float64) - self.value)
        allowed = np.where(self.error > 0, self.error, np.finfo(np.float32).tiny)
        ratio = np.where(difference == 0, 0.0, difference / allowed)
        return float(np.max(np.where(np.isnan(ratio), np.inf, ratio), initial=0.0))


def exact(array: Array) -> Bounded:
    """A value that is given: float32 becomes float64, integers stay."""
    value = array.astype(np.float64) if array.dtype == np.float32 else array
    return Bounded(value, np.zeros(array.shape))


Definition = Callable[..., Bounded | tuple[Bounded, ...]]
AnyDefinition = TypeVar("AnyDefinition", bound=Definition)
_DEFINITIONS: dict[str, Definition] = {}


def defines(*operators: str) -> Callable[[AnyDefinition], AnyDefinition]:
    """Declares the reference of operators: called with the operator's name, attributes and inputs."""

    def register(function: AnyDefinition) -> AnyDefinition:
        for operator in operators:
            assert operator not in _DEFINITIONS, operator
            _DEFINITIONS[operator] = function
        return function

    return register


@cache
def _load() -> None:
    package = f"{__package__}.references"
    for module in pkgutil.iter_modules([str(Path(__file__).with_name("references"))]):
        importlib.import_module(f"{package}.{module.name}")


def reference(operator: str, attributes: Attributes, inputs: list[Bounded | None]) -> tuple[Bounded, ...]:
    """The outputs of one operator. Raises KeyError where no reference is written."""
    _load()
    found = _DEFINITIONS[operator](operator, attributes, *inputs)
    return found if isinstance(found, tuple) else (found,)
