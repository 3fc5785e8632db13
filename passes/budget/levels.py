"""Levels: ways to compress one layer, each a few passes with their options; the file is levels.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..recipe import Recipe

__all__ = ["Level", "known_levels", "level_recipe"]


@dataclass(frozen=True)
class Level:
    """`options` of the passes that a layer of this level goes through, by pass name."""

    name: str
    options: Mapping[str, Mapping[str, Any]]


@cache
def _file() -> Mapping[str, Any]:
    text = (Path(__file__).parent / "levels.yaml").read_text(encoding="utf-8")
    found: Mapping[str, Any] = yaml.safe_load(text)
    return found


@cache
def known_levels() -> tuple[Level, ...]:
    """All levels, in the order of the file."""
    return tuple(Level(name, options) for name, options in _file()["levels"].items())


def level_recipe(base: Recipe, chosen: Mapping[str, Level]) -> Recipe:
    """`base`, and behind its clean passes those of levels.yaml: each node as `chosen` says, all others left
    alone."""
    passes: dict[str, dict[str, Any]] = {
        name: dict(options or {}) for name, options in _file()["passes"].items()
    }
    for name, options in passes.items():
        nodes = {
            node: {**level.options[name], "skip": False}
            for node, level in chosen.items()
            if name in level.options
        }
        options.update(skip=not options.pop("always", False), nodes=nodes)
    used = [(name, options) for name, options in passes.items() if options["nodes"] or not options["skip"]]
    cut = sum(step.stage == "clean" for step in base.build())
    return Recipe(f"{base.name}, fitted", (*base.passes[:cut], *used, *base.passes[cut:]), base.summary)
