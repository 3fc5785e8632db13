"""What the tests gave, as plain data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gossamer.runtime.errors import OptionError

__all__ = ["OUTCOMES", "Report", "Result", "read_report"]

OUTCOMES = ("passed", "refused", "failed")


@dataclass(frozen=True)
class Result:
    """One test: `outcome` is one of OUTCOMES; onnxruntime's is empty where it was not asked."""

    suite: str
    name: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0
    onnxruntime: str = ""
    onnxruntime_reason: str = ""


@dataclass(frozen=True)
class Report:
    """All results for one target; `versions` names what they were made with."""

    target: str
    results: Sequence[Result]
    versions: dict[str, str]

    def counts(self, suite: str | None = None, *, theirs: bool = False) -> Counter[str]:
        """How many tests of a suite, or of all, had each outcome."""
        chosen = [r for r in self.results if suite in (None, r.suite)]
        return Counter(r.onnxruntime if theirs else r.outcome for r in chosen)

    def suites(self) -> list[str]:
        """Those that were run, in their order."""
        return list(dict.fromkeys(r.suite for r in self.results))

    def to_dict(self) -> dict[str, Any]:
        """`total`, a number for each outcome, the same by suite, and every test."""
        return {
            "target": self.target,
            **self._totals(None),
            "versions": self.versions,
            "suites": {suite: self._totals(suite) for suite in self.suites()},
            "tests": [asdict(result) for result in self.results],
        }

    def _totals(self, suite: str | None) -> dict[str, Any]:
        ours, theirs = self.counts(suite), self.counts(suite, theirs=True)
        return {
            "total": sum(ours.values()),
            **{outcome: ours[outcome] for outcome in OUTCOMES},
            "onnxruntime": {outcome: theirs[outcome] for outcome in OUTCOMES if theirs[outcome]},
        }


def read_report(path: Path) -> Report:
    """The report in a file that `--json` wrote. Raises OptionError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        results = [Result(**test) for test in data["tests"]]
        return Report(str(data["target"]), results, dict(data["versions"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            "is not a report of conformance",
            where=path,
            expected="a file that --json wrote",
            got=str(error)[:80],
        ) from None
