"""The curves of docs/compression.md: recipes with a knob, read from curves.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Curve", "Goal", "Level", "curves", "goals"]


class Level(BaseModel):
    """One point of a curve: `set` are texts `pass.option=value`, or options of the other quantiser."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    label: str
    set: tuple[str, ...] = ()
    recipe: str = ""  # in place of the curve's


class Curve(BaseModel):
    """A recipe at several levels; `calibrate` gives it the task's calibration data."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    title: str
    recipe: str
    quantizer: Literal["gossamer", "onnxruntime"] = "gossamer"  # the other one takes no recipe
    calibrate: bool = True
    tasks: tuple[str, ...] = ()  # all, when empty
    set: tuple[str, ...] = ()  # for every level
    levels: tuple[Level, ...]


class Goal(BaseModel):
    """How much of a task's score a level may cost (in the task's unit), or which other curve it must beat.

    `not_worse_than` names curves of which no level may lose less; what is above the dense score is chance,
    and counts as no loss.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str
    curve: str
    level: str
    tasks: tuple[str, ...]
    at_most: float | None = None
    better_than: str = ""
    not_worse_than: tuple[str, ...] = ()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    curve: tuple[Curve, ...]
    goal: tuple[Goal, ...] = ()


@cache
def _read() -> _File:
    text = (Path(__file__).parent / "curves.toml").read_text(encoding="utf-8")
    return _File.model_validate(tomllib.loads(text))


def curves() -> tuple[Curve, ...]:
    """All curves, in the order of the file."""
    return _read().curve


def goals() -> tuple[Goal, ...]:
    """What must be reached."""
    return _read().goal
