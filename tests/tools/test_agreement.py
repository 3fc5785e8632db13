"""What a check lets pass: the tolerance, or what the model itself makes of one unit in the last place."""

from __future__ import annotations

import pytest

from gossamer.kernels.targets import find_target
from gossamer.passes.rounding import TOLERANCE
from gossamer.runtime.errors import JobError
from gossamer.tools.checking import Check, require_agreement


def _check(relative: float) -> Check:
    return Check("in process", errors=({"name": "y", "relative": relative, "at": [0]},))


def _never() -> dict[str, float]:
    raise AssertionError("limits are not needed")


def test_a_small_error_passes_without_more_runs() -> None:
    require_agreement(find_target("host"), [_check(TOLERANCE / 2)], _never)


def test_an_error_that_rounding_alone_explains_passes() -> None:
    require_agreement(find_target("host"), [_check(2 * TOLERANCE)], lambda: {"y": 3 * TOLERANCE})


@pytest.mark.parametrize("error", [2 * TOLERANCE, float("inf"), float("nan")])
def test_any_other_error_is_refused(error: float) -> None:
    with pytest.raises(JobError, match="output y differs"):
        require_agreement(find_target("host"), [_check(error)], lambda: {"y": 1e-6})
