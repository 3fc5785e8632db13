"""Writes results as Markdown: first what is asked for and reached, then each part's rows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gossamer.runtime.errors import InputError

from .measuring import PARTS, Part
from .results import Result

__all__ = ["BEGIN", "END", "Goal", "goals", "insert", "page"]

BEGIN = "<!-- figures: written by `make benchmarks` -->"
END = "<!-- end of figures -->"
_TEXTS = ("", "model", "what", "engine")  # columns that are no numbers


@dataclass(frozen=True)
class Goal:
    """A limit for a row's value, or for its ratio to another row's, in each model that has one."""

    title: str
    part: str
    what: str
    over: str | None = None
    at_most: dict[str, float] | None = None
    at_least: dict[str, float] | None = None

    @property
    def models(self) -> list[str]:
        """The models with a limit."""
        return list(self.at_most or self.at_least or {})

    def reached(self, result: Result) -> float | None:
        """What a result gives, or None where a row is missing."""
        value = result.value(self.what)
        if self.over is None or value is None:
            return value
        base = result.value(self.over)
        return value / base if base else None

    def cell(self, result: Result | None, model: str) -> str:
        """The figure and its limit; bold when it is missed."""
        if model not in self.models:
            return ""
        limits = self.at_most or self.at_least or {}
        limit = f"{'≤' if self.at_most else '≥'} {limits[model]:g}"
        reached = self.reached(result) if result is not None else None
        if reached is None:
            return f"– ({limit})"
        missed = reached > limits[model] if self.at_most else reached < limits[model]
        return f"**{_figure(reached)}** ({limit})" if missed else f"{_figure(reached)} ({limit})"


@cache
def goals() -> tuple[Goal, ...]:
    """All goals, in the page's order."""
    with Path(__file__).with_name("goals.toml").open("rb") as stream:
        return tuple(Goal(**goal) for goal in tomllib.load(stream)["goal"])


def page(results: Sequence[Result]) -> str:
    """The tables of all results."""
    by_part = {name: [r for r in results if r.part == name] for name in PARTS}
    parts = (_part(PARTS[name], found) for name, found in by_part.items() if found)
    return "\n".join([_summary(results), *parts])


def insert(text: str, tables: str) -> str:
    """The page `text` with its tables replaced. Raises InputError where it has no place for them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError("the page has no place for the tables", expected=f"lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def _summary(results: Sequence[Result]) -> str:
    found = {(r.part, r.model): r for r in results}
    models = list(dict.fromkeys(model for goal in goals() for model in goal.models))
    rows = [
        [goal.title, *(goal.cell(found.get((goal.part, model)), model) for model in models)]
        for goal in goals()
    ]
    text = "Limits stand in parentheses; what misses its limit is bold, – is not measured.\n\n"
    return "## Reached\n\n" + text + _table(["", *models], rows)


def _part(part: Part, results: Sequence[Result]) -> str:
    rows = [
        [result.model, row["what"], *(_cell(key, row.get(key)) for key in part.columns)]
        for result in results
        for row in result.rows
    ]
    table = _table(["model", "what", *part.columns.values()], rows)
    return f"## {part.title}\n\n{_circumstances(part, results)}{table}"


def _circumstances(part: Part, results: Sequence[Result]) -> str:
    """Machine, dates and commands."""
    machines = _distinct(r.machine for r in results)
    dates = _distinct(r.date for r in results)
    versions = _distinct(f"{name} {v}" for r in results for name, v in r.versions.items())
    generic = _distinct(r.command.replace(f"{r.model}/", "MODEL/") for r in results)
    text = f"{'; '.join(machines)}; {', '.join(dates)}; {', '.join(versions)}.\n\n"
    commands = [f"    python -m gossamer.tools.benchmarks FOLDER --part {part.name}"]
    return text + "\n".join([*commands, *(f"    {line}" for line in generic)]) + "\n\n"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _cell(key: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return str(value or "")
    if key in ("ratio", "value") or key.endswith("_ms"):
        return _figure(float(value))
    return f"{value / 1e6:.1f}"


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---" if title in _TEXTS else "---:" for title in head], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
