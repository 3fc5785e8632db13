"""The command that converts, scores and writes tables and plots."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from gossamer.runtime.errors import OptionError

from ..console import note
from ..failing import run_alone
from ..options import known_names
from .curves import curves, goals
from .measuring import Point, baseline, kept, measure
from .page import insert, tables
from .plots import plot
from .tasks import TASKS

__all__ = ["command", "main"]


def command(
    shared: Path = typer.Argument(metavar="SHARED", help="The folder with models/ and data/."),
    folder: Path = typer.Argument(metavar="FOLDER", help="Where models and results are kept."),
    output: Path | None = typer.Option(
        None,
        "-o",
        "--output",
        metavar="FILE.md",
        help="A page whose measured part is replaced, and plots beside it.",
    ),
    task: list[str] = typer.Option([], "--task", help="Tasks; all when not given."),
    curve: list[str] = typer.Option([], "--curve", help="Curves; all when not given."),
    no_measure: bool = typer.Option(False, "--no-measure", help="Only show what was measured before."),
) -> None:
    """Measure bytes against quality, and write docs/compression.md."""
    names = known_names("--task", task, list(TASKS))
    wanted = known_names("--curve", curve, [c.name for c in curves()])
    chosen = [c for c in curves() if c.name in wanted]
    dense: dict[str, Point] = {}
    points: dict[str, list[Point]] = {}
    for name in names:
        data = TASKS[name](shared)
        if not data.path.is_file():
            raise OptionError("no such model", where=data.path)
        dense[name] = baseline(data, folder)
        points[name] = []
        for each in (c for c in chosen if (name in c.tasks if c.tasks else data.every_curve)):
            for level in each.levels:
                point = (kept if no_measure else measure)(data, each, level, folder)
                if point is None:
                    continue
                points[name].append(point)
                score = point.note if point.score is None else f"{point.score:.4g} {data.unit}"
                note(f"{name}, {each.name}, {level.label}: {point.bytes:,} bytes, {score}")
    if output is None:
        print(tables(points, dense, chosen, goals(), {}))
        return
    pictures = {name: f"{output.stem}/{name}.svg" for name in names}
    for name in names:
        plot(TASKS[name], dense[name], points[name], chosen, output.parent / pictures[name])
    page = output.read_text(encoding="utf-8")
    output.write_text(insert(page, tables(points, dense, chosen, goals(), pictures)), encoding="utf-8")
    note(f"{output}: written")


def main() -> int:
    """Run it as a command of its own; returns the exit code."""
    return run_alone(command)


if __name__ == "__main__":
    sys.exit(main())
