"""Options of passes are checked against the fields of their dataclasses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from gossamer.runtime.errors import OptionError, nearest

__all__ = ["check_options"]


def check_options(
    kind: type[object], options: Mapping[Any, Any], where: str, known: Iterable[str] | None = None
) -> dict[str, Any]:
    """`options` as values of the fields of the dataclass `kind`, or of those in `known` only.

    Raises OptionError naming the option, what it takes, what it got, and the nearest known one.
    """
    names = tuple(known) if known is not None else tuple(f.name for f in fields(kind))  # type: ignore[arg-type]  # every pass is a dataclass
    return {key: _check(kind, key, value, names, where) for key, value in options.items()}


def _check(kind: type[object], key: object, value: Any, known: tuple[str, ...], where: str) -> Any:
    if key not in known:
        raise OptionError(
            f"unknown option {key!r}",
            where=where,
            expected="one of " + ", ".join(known) if known else "no options",
            advice=nearest(str(key), known),
        )
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
    try:
        return TypeAdapter(hints[str(key)]).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise OptionError(
            f"option {key!r} is wrong", where=where, expected=first["msg"], got=repr(first["input"])
        ) from None


@cache
def _hints(kind: type[object]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
