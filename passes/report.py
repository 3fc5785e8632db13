"""What each pass matched, changed and refused, and why; as data, JSON, or one HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

__all__ = ["Change", "OutputCheck", "PassReport", "Refusal", "Report"]


@dataclass(frozen=True)
class Change:
    """One node that a pass changed; bytes are those of its weights before and after."""

    node: str
    operator: str
    detail: str
    bytes_before: int = 0
    bytes_after: int = 0


@dataclass(frozen=True)
class Refusal:
    """One node that a pass left as it was, and why."""

    node: str
    operator: str
    reason: str


@dataclass
class PassReport:
    """What one pass did. `matched` counts the nodes it looked at: each is changed or refused.

    Bytes are those of all weights of the model before and after.
    """

    name: str
    stage: str
    exact: bool
    options: dict[str, Any] = field(default_factory=dict)
    matched: int = 0
    changed: list[Change] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0


@dataclass(frozen=True)
class OutputCheck:
    """How far one output of the converted model lies from the source's.

    `relative` is `max_abs` over the `spread` (largest minus smallest) of the source's output; `tolerance`
    bounds it, or is None where a lossy pass ran and no bound was asked for. `stage` says which part of the
    recipe was compared.
    """

    output: str
    max_abs: float
    spread: float
    relative: float
    tolerance: float | None
    passed: bool
    stage: str = "all"


@dataclass
class Report:
    """The whole of a conversion: its passes in order, and the checks of the result."""

    model: str
    recipe: str
    passes: list[PassReport] = field(default_factory=list)
    checks: list[OutputCheck] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def exact(self) -> bool:
        """Whether every pass that changed something claims to be exact."""
        return all(entry.exact or not entry.changed for entry in self.passes)

    def to_json(self) -> str:
        """The report as JSON text, its keys those of the classes here, with a `format` and a `version`."""
        data = {"format": "gossamer-report", "version": 1, "exact": self.exact, **asdict(self)}
        return json.dumps(data, indent=2, ensure_ascii=False, default=str)

    def to_html(self) -> str:
        """The report as one HTML page that needs nothing else."""
        title = f"{self.model}: {self.recipe}"
        body = [f"<h1>{escape(title)}</h1>", f"<p>Weights: {_bytes(self.bytes_before, self.bytes_after)}</p>"]
        if self.checks:
            body.append(_table("Outputs compared with the source", _CHECK_HEAD, map(_check_row, self.checks)))
        body.append(_table("Passes", _PASS_HEAD, map(_pass_row, self.passes)))
        for entry in self.passes:
            body.extend(_details(entry))
        return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(body))


_PAGE = (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
    "<style>{style}</style>\n{body}\n</html>\n"
)
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2rem;max-width:75rem}"
    "table{border-collapse:collapse;margin:.5rem 0}"
    "td,th{border-bottom:1px solid #ccc;padding:.2rem .8rem;text-align:left}td.n{text-align:right}"
    "caption{text-align:left;font-weight:600;padding:.4rem 0}summary{cursor:pointer;margin-top:1rem}"
)
_CHECK_HEAD = ("output", "compared", "largest error", "of the spread", "tolerance", "")
_PASS_HEAD = ("pass", "stage", "exact", "options", "matched", "changed", "refused", "weights")
_CHANGE_HEAD = ("node", "operator", "change", "weights")
_REFUSAL_HEAD = ("node", "operator", "reason")
Cells = tuple[object, ...]


def _check_row(check: OutputCheck) -> Cells:
    bound = "none" if check.tolerance is None else f"{check.tolerance:.1e}"
    verdict = "ok" if check.passed else "failed"
    return check.output, check.stage, f"{check.max_abs:.3e}", f"{check.relative:.3e}", bound, verdict


def _pass_row(entry: PassReport) -> Cells:
    options = ", ".join(f"{key}={value}" for key, value in entry.options.items())
    counts = entry.matched, len(entry.changed), len(entry.refused)
    kind = "yes" if entry.exact else "no"
    return entry.name, entry.stage, kind, options, *counts, _bytes(entry.bytes_before, entry.bytes_after)


def _details(entry: PassReport) -> Iterable[str]:
    if not (entry.changed or entry.refused or entry.notes):
        return
    yield f"<details><summary>{escape(entry.name)}</summary>"
    yield from (f"<p>{escape(note)}</p>" for note in entry.notes)
    changes = [(c.node, c.operator, c.detail, _bytes(c.bytes_before, c.bytes_after)) for c in entry.changed]
    if changes:
        yield _table("Changed", _CHANGE_HEAD, changes)
    if entry.refused:
        yield _table("Refused", _REFUSAL_HEAD, [(r.node, r.operator, r.reason) for r in entry.refused])
    yield "</details>"


def _bytes(before: int, after: int) -> str:
    return f"{before:,} → {after:,} bytes" if before or after else ""


def _table(caption: str, head: Iterable[str], rows: Iterable[Cells]) -> str:
    lines = [f"<table><caption>{escape(caption)}</caption><tr>"]
    lines += [f"<th>{escape(cell)}</th>" for cell in head]
    for row in rows:
        lines.append("<tr>")
        lines += [_cell(cell) for cell in row]
    return "".join([*lines, "</table>"])


def _cell(value: object) -> str:
    return f'<td class="n">{value:,}' if isinstance(value, int) else f"<td>{escape(str(value))}"
