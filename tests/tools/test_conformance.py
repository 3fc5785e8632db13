"""`gossamer conformance` on a fixed part of ONNX's tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gossamer.kernels.targets import find_target
from gossamer.runtime.errors import OptionError
from gossamer.tools.cli import main
from gossamer.tools.conformance import run_conformance
from gossamer.tools.conformance.cases import Case, load_suite, select_cases
from gossamer.tools.conformance.comparing import first_difference
from gossamer.tools.conformance.document import document
from gossamer.tools.conformance.ours import run_case
from gossamer.tools.conformance.results import Report, Result, read_report

CASE = Case("node", "test_it", 1e-3, 1e-7, None)


def array(*values: float, dtype: str = "float32") -> np.ndarray:
    return np.array(values, dtype)


@pytest.fixture(scope="module")
def report() -> Report:
    """Of every second small test that PyTorch once exported."""
    return run_conformance("host", ["pytorch-operator", "simple"], (1, 2))


def test_no_test_fails(report: Report) -> None:
    failed = [f"{r.name}: {r.reason}" for r in report.results if r.outcome == "failed"]
    assert not failed, "\n".join(failed)


def test_what_is_refused_says_why_in_one_line(report: Report) -> None:
    refused = [r for r in report.results if r.outcome == "refused"]
    assert all(r.reason and "\n" not in r.reason for r in refused)


def test_most_pass_and_onnxruntime_was_asked(report: Report) -> None:
    assert len(report.results) == 29
    assert report.counts()["passed"] >= 20
    assert all(r.onnxruntime for r in report.results)


def test_reports_are_read_as_they_were_written(report: Report, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(report.to_dict()))
    assert read_report(tmp_path / "r.json") == report
    assert main(["conformance", "--from", str(tmp_path / "r.json"), "-o", str(tmp_path / "r.md")]) == 0
    assert "| host | simple |" in (tmp_path / "r.md").read_text()


def test_suites_are_those_of_onnx() -> None:
    assert len(load_suite("simple")) == 23
    assert len(load_suite("pytorch-converted")) == 82
    assert len(load_suite("real")) == 9


def test_shards_are_disjoint_and_complete() -> None:
    whole = [case.name for case in select_cases(["simple"])]
    parts = [[case.name for case in select_cases(["simple"], (k, 3))] for k in (1, 2, 3)]
    assert sorted(whole) == sorted(name for part in parts for name in part)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(OptionError):
        select_cases(["simple"], only=["nothing"])


def test_a_crash_is_the_failure_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Case) -> None:
        raise RuntimeError("it\nbroke")

    monkeypatch.setattr(Case, "model", broken)
    outcome = run_case(CASE, find_target("host"))
    assert (outcome.result, outcome.reason) == ("failed", "compiling: RuntimeError: it broke")


@pytest.mark.parametrize(
    ("expected", "got", "reason"),
    [
        ([array(1.0)], [array(1.0009)], ""),
        ([array(1.0)], [array(1.002)], "output 0: 1.00"),
        ([array(np.nan, np.inf)], [array(np.nan, np.inf)], ""),
        ([array(1.0)], [array(1.0, dtype="float64")], "output 0: type float64, expected float32"),
        ([array(1.0)], [array(1.0, 1.0)], "output 0: shape [2], expected [1]"),
        ([array(1.0)], [], "0 outputs, expected 1"),
        ([[array(1.0)]], [[array(2.0)]], "output 0: output 0: 2.0 at [0], expected 1.0; 1 of 1 differ"),
    ],
)
def test_differences_are_those_of_onnx_runner(expected: list, got: list, reason: str) -> None:  # type: ignore[type-arg]
    found = first_difference(CASE, expected, got)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_the_document_lists_every_test_that_did_not_pass() -> None:
    results = [
        Result("node", "test_a", "passed", onnxruntime="passed"),
        Result("node", "test_b", "refused", "GRU node 'n0': no kernel", onnxruntime="passed"),
        Result("node", "test_c", "refused", "GRU node 'n1': no kernel", onnxruntime="refused"),
        Result("node", "test_d", "failed", "crashed: signal 11", onnxruntime="passed"),
    ]
    text = document([Report("host", results, {"onnx": "1"})])
    assert "| host | node | 4 | 1 | 2 | 1 | 3 | 1 | 0 |" in text
    assert "- GRU: no kernel (2): **`b`**, `c`" in text
    assert "`test_d`: crashed: signal 11 (onnxruntime: passed)" in text
