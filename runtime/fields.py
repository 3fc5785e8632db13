"""Typed reading of untrusted JSON: every refusal names the field by its path, `inputs[0].shape[1]`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .errors import ArtifactError

__all__ = ["Fields", "refuse"]

T = TypeVar("T")
LONGEST_TEXT = 4096
LONGEST_LIST = 1 << 20


_NOTHING = object()


def refuse(path: str, what: str, expected: object = None, got: object = _NOTHING) -> ArtifactError:
    """The error for field `path`; the value is shown as JSON, cut where it is long."""
    shown = None if got is _NOTHING else _short(json.dumps(got, ensure_ascii=False, default=repr))
    return ArtifactError(f"field {path} {what}", where="manifest.json", expected=expected, got=shown)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


class Fields:
    """One JSON object and its path. Getters return a value of the type they are named after or raise."""

    def __init__(self, data: object, path: str = "") -> None:
        if not isinstance(data, dict):
            raise refuse(path or "(the whole file)", "is wrong", "an object", data)
        self._data: dict[str, Any] = data
        self._path = path

    def path(self, key: str) -> str:
        """The full path of `key`."""
        return f"{self._path}.{key}" if self._path else key

    def raw(self, key: str) -> Any:
        """The value of `key`, of any type; the field must be there."""
        if key not in self._data:
            raise refuse(self.path(key), "is missing")
        return self._data[key]

    def has(self, key: str) -> bool:
        """Whether the field is there."""
        return key in self._data

    def keys(self) -> Iterator[str]:
        """The keys of the object."""
        return iter(self._data)

    def text(self, key: str, pattern: str | None = None, longest: int = LONGEST_TEXT) -> str:
        """A string of at most `longest` characters that matches the whole of `pattern`."""
        value = self.raw(key)
        if not isinstance(value, str):
            raise refuse(self.path(key), "is wrong", "a string", value)
        if len(value) > longest:
            raise refuse(self.path(key), "is too long", f"at most {longest} characters", len(value))
        if pattern is not None and re.fullmatch(pattern, value) is None:
            raise refuse(self.path(key), "is wrong", f"text matching {pattern}", value)
        return value

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        """One of the strings `known`."""
        value = self.text(key)
        if value not in known:
            raise refuse(self.path(key), "is wrong", "one of " + ", ".join(known), value)
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number in low..high."""
        return check_integer(self.path(key), self.raw(key), low, high)

    def number(self, key: str) -> float:
        """A finite number, whole or not."""
        value = self.raw(key)
        if type(value) not in (int, float) or abs(value) > 1e18:
            raise refuse(self.path(key), "is wrong", "a number", value)
        return float(value)

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self.raw(key)
        if not isinstance(value, bool):
            raise refuse(self.path(key), "is wrong", "true or false", value)
        return value

    def items(self, key: str, read: Callable[[object, str], T], longest: int = LONGEST_LIST) -> tuple[T, ...]:
        """A list of at most `longest`, each element read by `read(element, path)`."""
        value = self.raw(key)
        if not isinstance(value, list):
            raise refuse(self.path(key), "is wrong", "a list", value)
        if len(value) > longest:
            raise refuse(self.path(key), "is too long", f"at most {longest} elements", len(value))
        return tuple(read(element, f"{self.path(key)}[{i}]") for i, element in enumerate(value))


def check_integer(path: str, value: object, low: int, high: int) -> int:
    """`value` when it is a whole number in low..high."""
    if type(value) is not int or not low <= value <= high:
        raise refuse(path, "is wrong", f"a whole number in {low}..{high}", value)
    return value


def check_text(path: str, value: object) -> str:
    """`value` when it is a string of bounded length."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise refuse(path, "is wrong", f"a string of at most {LONGEST_TEXT} characters", value)
    return value
