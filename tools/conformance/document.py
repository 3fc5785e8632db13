"""docs/conformance.md: totals beside onnxruntime, and every test that did not pass, by reason."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from .results import Report, Result

__all__ = ["document", "write_document"]

_HEAD = """\
# Conformance

ONNX's own backend tests through the compiler, written by `gossamer conformance`. A test passes if its outputs
have the expected types and shapes and lie within the tolerance of ONNX's runner. It is refused if the
compiler says in one line, before anything is built, what it cannot take. All else fails: a wrong answer, a
crash, an error at run time, or more time than the limit.
"""
_NAMES = re.compile(r"(?:node |input |output |value )?'[^']*'")


def write_document(reports: Sequence[Report], path: Path) -> None:
    """Writes the tables of all targets to a file."""
    path.write_text(document(reports), encoding="utf-8")


def document(reports: Sequence[Report]) -> str:
    """Markdown: one table of totals, then for each target refusals by reason, and failures."""
    lines = [_HEAD, *_totals(reports)]
    for report in reports:
        lines += [f"\n## {report.target}: not passed\n", *_not_passed(report)]
    return "\n".join(lines) + "\n"


def _totals(reports: Sequence[Report]) -> Iterator[str]:
    versions = dict(item for report in reports for item in report.versions.items())
    yield "Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n"
    yield "| target | suite | tests | passed | refused | failed | onnxruntime passed | refused | failed |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for report in reports:
        for suite in report.suites():
            ours, theirs = report.counts(suite), report.counts(suite, theirs=True)
            numbers = [sum(ours.values()), *(ours[o] for o in ("passed", "refused", "failed"))]
            beside = [theirs[o] if not theirs[""] else "" for o in ("passed", "refused", "failed")]
            yield f"| {report.target} | {suite} | " + " | ".join(str(n) for n in [*numbers, *beside]) + " |"


def _not_passed(report: Report) -> Iterator[str]:
    failed = [result for result in report.results if result.outcome == "failed"]
    if failed:
        yield "### Failed\n"
        yield from (f"- `{result.name}`: {_text(result.reason)}{_beside(result)}" for result in failed)
        yield ""
    groups = _by_reason([result for result in report.results if result.outcome == "refused"])
    if groups:
        yield "### Refused\n"
        yield "Tests that onnxruntime passes are set in bold.\n"
    for reason, results in groups:
        yield f"- {_text(reason)} ({len(results)}): " + ", ".join(_name(result) for result in results)


def _by_reason(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Largest group first; what names a node or value of one model is left out of a reason."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[general_reason(result.reason)].append(result)
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))


def general_reason(reason: str) -> str:
    """A reason without the names of nodes and values.

    >>> general_reason("GRU node 'GRU_0': no kernel for this operator; see docs/models.md")
    'GRU: no kernel for this operator; see docs/models.md'
    """
    return re.sub(r"\s+", " ", _NAMES.sub("", reason)).replace(" :", ":").strip(" :")


def _text(reason: str) -> str:
    return reason.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _name(result: Result) -> str:
    name = f"`{result.name.removeprefix('test_')}`"
    return f"**{name}**" if result.onnxruntime == "passed" else name


def _beside(result: Result) -> str:
    return f" (onnxruntime: {result.onnxruntime})" if result.onnxruntime else ""
