"""--budget-mb: how much of an artifact's weights is loaded, and what is said where that cannot be."""

from __future__ import annotations

from pathlib import Path

from .conftest import Run


def test_a_budget_that_holds_everything_changes_nothing(run: Run, artifacts: Path) -> None:
    plain = run("run", artifacts / "host", "--json")
    assert run("run", artifacts / "host", "--budget-mb", 1, "--json").data == plain.data
    timed = run("bench", artifacts / "host", "--budget-mb", 1, "--rounds", 1, "--json")
    assert timed.code == 0
    assert timed.data["timings"][0]["engine"] == "gossamer"


def test_too_small_a_budget_ends_in_one_line(run: Run, artifacts: Path) -> None:
    for command in ("run", "bench"):
        outcome = run(command, artifacts / "host", "--budget-mb", 0.0001)
        assert outcome.code == 2
        assert "budget_mb: the budget is too small for the weights; expected at least 0.0" in outcome.err
        assert "stack-bits" in outcome.err


def test_only_artifacts_in_process_have_a_budget(run: Run, tiny: Path, artifacts: Path) -> None:
    for model in (tiny, f"gossamer@node:{artifacts / 'host'}"):
        outcome = run("run", model, "--budget-mb", 1)
        assert outcome.code == 2
        assert "--budget-mb: only artifacts that run in process have a budget" in outcome.err
