"""Every kernel on every machine that runs here, against its definition, with guarded buffers."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

from .graphs import Case, merge
from .machines import MACHINES, Machine

CASES_IN_A_BATCH = 16
_FOLDER = str(Path(__file__).with_name("suites"))
SUITES: dict[str, Any] = {
    found.name: import_module(f"{__package__}.suites.{found.name}")
    for found in pkgutil.iter_modules([_FOLDER])
}


def usable(name: str) -> Machine:
    machine = MACHINES[name]
    if reason := machine.why_not():
        pytest.skip(reason)
    return machine


def require_no_fault(machine: Machine, cases: Sequence[Case], folder: Path) -> None:
    faults = machine.faults(merge(cases), folder)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("suite", SUITES)
def test_edges_agree_with_the_definition(
    suite: str, edges_on: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole = edges_on == "host" or request.config.getoption("--batches")
    step = 1 if whole else getattr(SUITES[suite], "SAMPLED", 1)
    require_no_fault(usable(edges_on), SUITES[suite].edges()[::step], tmp_path)


@pytest.mark.parametrize("suite", SUITES)
def test_drawn_cases_agree_with_the_definition(
    suite: str, drawn_on: str, request: pytest.FixtureRequest
) -> None:
    runs_here = usable(drawn_on)
    batches = request.config.getoption("--batches")
    drawn: list[list[Case]] = []

    @settings(
        max_examples=1 + (batches or 1),
        derandomize=not batches,  # the same cases every time, unless many are asked for
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,  # it would print every array
        phases=[Phase.generate],  # a fault names its case, which can be run alone: nothing to shrink
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(SUITES[suite].cases(), min_size=CASES_IN_A_BATCH, max_size=CASES_IN_A_BATCH))
    def check(cases: list[Case]) -> None:
        drawn.append(cases)
        if len(drawn) > 1:  # the first one is the simplest case, many times
            with TemporaryDirectory() as folder:
                require_no_fault(runs_here, cases, Path(folder))

    check()
