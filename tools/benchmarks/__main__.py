"""The command that measures and writes the tables."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from ..console import note
from ..failing import run_alone
from ..options import known_names
from .building import Builds
from .measuring import PARTS, Options
from .page import goals, insert, page
from .results import read_results, write_result

__all__ = ["command", "main"]


def command(
    folder: Path = typer.Argument(metavar="FOLDER", help="Where models, artifacts and results are kept."),
    output: Path | None = typer.Option(
        None,
        "-o",
        "--output",
        metavar="FILE.md",
        help="A page whose tables are replaced; else they are printed.",
    ),
    part: list[str] = typer.Option([], "--part", help="A table; all when not given."),
    model: list[str] = typer.Option([], "--model", help="Zoo models; those that have goals when not given."),
    peer: list[str] = typer.Option(
        [], "--peer", metavar="ENGINE[@VARIANT]", help="Also natively, on the dense model."
    ),
    rounds: int = typer.Option(10, "--rounds", min=1, help="Turns that each engine gets."),
    reuse: bool = typer.Option(False, "--reuse", help="Keep artifacts that are there."),
    build_only: bool = typer.Option(
        False, "--build-only", help="Build what the parts need, measure nothing."
    ),
    no_measure: bool = typer.Option(False, "--no-measure", help="Only write the tables of earlier results."),
) -> None:
    """Build, measure and write the tables of docs/benchmarks.md."""
    models = known_names(
        "--model", model, list(dict.fromkeys(name for goal in goals() for name in goal.models))
    )
    parts = known_names("--part", part, list(PARTS))
    page_before = output.read_text(encoding="utf-8") if output is not None else ""
    for name in [] if no_measure else models:
        builds = Builds(folder, name, reuse=reuse)
        for wanted in (PARTS[p] for p in parts):
            if not wanted.takes(name):
                continue
            if build_only:
                wanted.build(builds)
            else:
                measured = wanted.measure(builds, Options(rounds, tuple(peer)))
                write_result(folder, wanted.name, name, measured)
    if build_only:
        return
    tables = page(read_results(folder))
    if output is None:
        print(tables)
    else:
        output.write_text(insert(page_before, tables), encoding="utf-8")
        note(f"{output}: written")


def main() -> int:
    """Run it as a command of its own; returns the exit code."""
    return run_alone(command)


if __name__ == "__main__":
    sys.exit(main())
