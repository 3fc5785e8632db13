"""`gossamer conformance`: ONNX's own backend tests through the compiler, beside onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..console import Column, note, print_json, print_table, show_progress
from ..options import known_names, parse_shard, split_targets

if TYPE_CHECKING:
    from ..conformance.results import Report

__all__ = ["command"]

_COLUMNS = [
    Column("target", "target"),
    Column("suite", "suite"),
    Column("total", "tests", right=True),
    Column("passed", "passed", right=True),
    Column("refused", "refused", right=True),
    Column("failed", "failed", right=True),
    Column("theirs", "onnxruntime passed", right=True),
]


def command(
    target: str = typer.Option("host", "--target", metavar="NAME[,NAME]", help="What this machine can run."),
    suite: list[str] = typer.Option(
        [], "--suite", help="node, simple, pytorch-operator, pytorch-converted or real; all without."
    ),
    shard: str = typer.Option("1/1", "--shard", metavar="K/N", help="Every N-th test, from the K-th."),
    only: list[str] = typer.Option([], "--only", metavar="PATTERN", help="A part of the name, or wildcards."),
    jobs: int = typer.Option(2, "--jobs", min=1, help="Processes at once."),
    limit: float = typer.Option(60.0, "--limit", metavar="SECONDS", help="For each test."),
    no_onnxruntime: bool = typer.Option(False, "--no-onnxruntime", help="Do not run onnxruntime beside."),
    earlier: list[Path] = typer.Option(
        [], "--from", metavar="FILE.json", help="Show reports of earlier runs; run nothing."
    ),
    output: Path | None = typer.Option(None, "-o", "--output", metavar="FILE.md", help="Write the tables."),
    as_json: bool = typer.Option(
        False, "--json", help="Print JSON: one report, or of several targets a list."
    ),
) -> None:
    """Run ONNX's backend tests: each passes, is refused before anything is built, or fails.

    Exit code 1 if any test failed: a wrong answer, a crash, or more than the time limit.
    """
    from ..conformance import run_conformance
    from ..conformance.cases import SUITES
    from ..conformance.document import write_document
    from ..conformance.results import read_report

    suites = known_names("--suite", [name for name in suite if name != "all"], list(SUITES))
    part = parse_shard(shard)
    if earlier:
        reports = [read_report(path) for path in earlier]
    else:
        with show_progress() as progress:
            reports = [
                run_conformance(
                    name,
                    suites,
                    part,
                    only,
                    jobs=jobs,
                    limit=limit,
                    beside=not no_onnxruntime,
                    progress=progress,
                )
                for name in split_targets(target)
            ]
    if output is not None:
        write_document(reports, output)
    if as_json:
        data = [report.to_dict() for report in reports]
        print_json(data[0] if len(data) == 1 else data)
    else:
        print_table(_COLUMNS, [row for report in reports for row in _rows(report)])
        _name_the_rest(reports, few=bool(only))
    if any(report.counts()["failed"] for report in reports):
        raise typer.Exit(1)


def _rows(report: Report) -> list[dict[str, Any]]:
    rows = []
    for suite in report.suites():
        ours, theirs = report.counts(suite), report.counts(suite, theirs=True)
        rows.append(
            {"target": report.target, "suite": suite, "total": sum(ours.values()), **_numbers(ours)}
            | {"theirs": theirs["passed"] if theirs[""] == 0 else None}
        )
    return rows


def _numbers(counts: Any) -> dict[str, int]:
    return {outcome: counts[outcome] for outcome in ("passed", "refused", "failed")}


def _name_the_rest(reports: list[Report], few: bool) -> None:
    """Failures are always told; refusals where few tests were asked for."""
    for report in reports:
        for result in report.results:
            if result.outcome == "failed" or (few and result.outcome == "refused"):
                note(f"{report.target}: {result.name}: {result.outcome}: {result.reason}")
