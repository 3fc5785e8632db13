"""Run a built artifact on whatever machine there is for it: this one, wasmtime, Node or qemu."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.kernels.building.emulating import run_emulated, why_not_emulated
from gossamer.kernels.targets import Target
from gossamer.runtime.artifact import Artifact, open_artifact
from gossamer.runtime.errors import ArtifactError
from gossamer.runtime.machine import check_machine
from gossamer.runtime.session import InferenceSession

from .checking import Check, check_outputs
from .trial_sizes import trial_feeds

if TYPE_CHECKING:
    import onnx_ir as ir

    from gossamer.passes.reference import Runnable

__all__ = ["Reference", "check_artifact"]

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Trial:
    """Inputs of some sizes (by name, where the model leaves them open), and onnxruntime's outputs."""

    sizes: Mapping[str, int]
    feeds: Arrays
    expected: Arrays


class Reference:
    """What onnxruntime gives for the model that the user handed in, on random inputs of a few sizes."""

    def __init__(self, source: Runnable, prepared: ir.Model) -> None:
        from gossamer.passes.reference import open_onnx, run_opened

        self._source = source
        with open_onnx(source) as session:
            names = [output.name for output in session.get_outputs()]
            self.trials = [
                Trial(sizes, feeds, dict(zip(names, outputs, strict=True)))
                for sizes, feeds, outputs in trial_feeds(prepared, partial(run_opened, session))
            ]

    def limits(self) -> dict[str, float]:
        """By output: how far, in spreads, rounding alone may move it."""
        from gossamer.passes.rounding import rounding_limits

        most: dict[str, float] = {}
        for trial in self.trials:
            found = rounding_limits(self._source, trial.feeds, list(trial.expected.values()))
            for name, limit in zip(trial.expected, found, strict=True):
                most[name] = max(limit, most.get(name, 0.0))
        return most


def check_artifact(folder: Path, target: Target, reference: Reference) -> list[Check]:
    """One check for each way to run the artifact here; where there is none, one that says why.

    Raises JobError when the code crashes.
    """
    checks: dict[str, Check] = {}
    for trial in reference.trials:
        for where, outputs in _runs(folder, target, trial.feeds):
            if outputs is None:
                checks[where] = Check(None, reason=where)
                continue
            rows = check_outputs(trial.expected, outputs)
            sized = tuple({**row, "sizes": dict(trial.sizes)} if trial.sizes else row for row in rows)
            before = checks[where].errors if where in checks else ()
            checks[where] = Check(where, errors=(*before, *sized))
    return list(checks.values())


def _runs(folder: Path, target: Target, feeds: Arrays) -> Iterator[tuple[str, Arrays | None]]:
    """Pairs of what ran it and the outputs, or of the reason why it did not run and None."""
    if target.family == "wasm":
        for variant in ("simd", "relaxed"):
            yield f"wasmtime ({variant})", _in_process(folder, feeds, variant)
        return
    artifact = open_artifact(folder)
    foreign = _not_for_this_machine(artifact)
    if foreign is None:
        yield "in process", _in_process(folder, feeds)
    elif (reason := why_not_emulated(artifact)) is None:
        emulation = run_emulated(artifact, feeds)
        names = [output.name for output in artifact.manifest.outputs]
        yield emulation.emulator, dict(zip(names, emulation.outputs, strict=True))
    else:
        yield f"{foreign}; {reason}", None


def _in_process(folder: Path, feeds: Arrays, variant: str | None = None) -> Arrays:
    with InferenceSession(folder, engine=variant) as session:
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, feeds), strict=True))


def _not_for_this_machine(artifact: Artifact) -> str | None:
    try:
        check_machine(artifact.manifest.target)
    except ArtifactError as error:
        return f"this machine cannot run it: expected {error.expected}, got {error.got}"
    return None
