"""Passes are found by their files: `compress/prune.py` holds the pass `prune` of the stage `compress`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from gossamer.runtime.errors import OptionError, nearest

from .base import STAGES, Pass

__all__ = ["find_pass", "make_pass", "pass_names"]


@cache
def _files() -> dict[str, str]:
    """Stage by pass name, in the order of stages."""
    here = Path(__file__).parent
    return {
        file.stem.replace("_", "-"): stage
        for stage in STAGES
        for file in sorted((here / stage).glob("[a-z]*.py"))
    }


def pass_names() -> tuple[str, ...]:
    """Names of every pass, by stage and then sorted."""
    return tuple(_files())


@cache
def find_pass(name: str) -> type[Pass]:
    """The class of the pass called `name`. Raises OptionError naming the nearest."""
    stage = _files().get(name)
    if stage is None:
        raise OptionError(
            "unknown pass",
            where=name,
            expected="one of " + ", ".join(pass_names()),
            advice=nearest(name, pass_names()),
        )
    module = import_module(f".{stage}.{name.replace('-', '_')}", __package__)
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Pass) and value.__module__ == module.__name__
    )
    return found


def make_pass(name: str, options: Mapping[str, Any], where: str = "") -> Pass:
    """The pass called `name` with checked `options`. Raises OptionError naming option, expected and got."""
    kind = find_pass(name)
    where = where or name
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]  # every pass is a dataclass
    checked = {key: _check(kind, key, value, known, where) for key, value in options.items()}
    return kind(**checked)


def _check(kind: type[Pass], key: str, value: Any, known: list[str], where: str) -> Any:
    if key not in known:
        raise OptionError(
            f"unknown option {key!r}",
            where=where,
            expected="one of " + ", ".join(known) if known else "no options",
            advice=nearest(key, known),
        )
    try:
        return TypeAdapter(_hints(kind)[key]).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise OptionError(
            f"option {key!r} is wrong", where=where, expected=first["msg"], got=repr(first["input"])
        ) from None


@cache
def _hints(kind: type[Pass]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
