"""What is declared for operators by the files of a folder, each file read when something is first asked."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Generic, TypeVar

__all__ = ["OperatorTable"]

Declared = TypeVar("Declared")


class OperatorTable(Generic[Declared]):
    """Functions by domain and operator; every file of `package` is read, none is listed."""

    def __init__(self, package: str) -> None:
        self._package, self._loaded = package, False
        self._found: dict[tuple[str, str], Declared] = {}

    def declare(self, domain: str, *operators: str) -> Callable[[Declared], Declared]:
        """A decorator that enters a function for these operators of `domain`."""

        def register(function: Declared) -> Declared:
            for operator in operators:
                assert (domain, operator) not in self._found, operator
                self._found[domain, operator] = function
            return function

        return register

    def find(self, domain: str, operator: str) -> Declared | None:
        """What was declared for an operator, None where nothing was."""
        if not self._loaded:
            for module in pkgutil.iter_modules(import_module(self._package).__path__):
                import_module(f"{self._package}.{module.name}")
            self._loaded = True
        return self._found.get((domain, operator))
