"""All tests of some suites for one target."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from gossamer.kernels.targets import find_target
from gossamer.runtime.errors import GossamerError, OptionError
from gossamer.runtime.machine import check_machine
from gossamer.runtime.specs import TargetSpec

from ..console import Progress
from .cases import select_cases
from .pool import run_cases
from .results import Report

__all__ = ["run_conformance"]


def run_conformance(
    target: str,
    suites: Sequence[str],
    shard: tuple[int, int] = (1, 1),
    only: Sequence[str] = (),
    *,
    jobs: int = 2,
    limit: float = 60.0,
    beside: bool = True,
    progress: Progress = lambda label, done, total: None,
) -> Report:
    """Runs a shard of the suites. Raises OptionError for a target that this process cannot run."""
    _require_runnable(target)
    cases = select_cases(suites, shard, only)
    results = run_cases(cases, target, jobs=jobs, limit=limit, beside=beside, progress=progress)
    packages = ("gossamer", "onnx", "onnxruntime")
    return Report(target, results, {name: version(name) for name in packages})


def _require_runnable(name: str) -> None:
    found = find_target(name)
    if found.family == "wasm":
        return
    try:
        check_machine(TargetSpec(found.name, found.triple, found.family, found.container, found.requires))
    except GossamerError as error:
        raise OptionError(
            "this machine cannot run the target's code", where=f"--target {name}", got=str(error)
        ) from None
