"""Passes are found by their files: `compress/prune.py` holds the pass `prune` of the stage `compress`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from gossamer.runtime.errors import OptionError, nearest

from .base import STAGES, Pass
from .options import check_options

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
    return kind(**check_options(kind, options, where or name))
