"""Run a built artifact on whatever machine there is for it: this one, wasmtime, Node or qemu."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer.kernels.building.emulating import run_emulated, why_not_emulated
from gossamer.kernels.targets import Target
from gossamer.runtime.artifact import Artifact, open_artifact
from gossamer.runtime.errors import ArtifactError
from gossamer.runtime.feeds import random_feeds
from gossamer.runtime.machine import check_machine
from gossamer.runtime.session import InferenceSession

from .checking import Check, check_outputs
from .engines import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

    from gossamer.passes.reference import Runnable

__all__ = ["Reference", "check_artifact"]

Arrays = dict[str, np.ndarray[Any, Any]]


class Reference:
    """What onnxruntime gives for the model that the user handed in, on random inputs."""

    def __init__(self, source: Runnable, prepared: ir.Model) -> None:
        from gossamer.passes.reference import onnx_io, run_onnx

        self._source = source
        self.feeds: Arrays = random_feeds(_static_inputs(prepared))
        outputs = run_onnx(source, self.feeds)
        self.expected: Arrays = dict(zip((o.name for o in onnx_io(source)[1]), outputs, strict=True))

    def limits(self) -> dict[str, float]:
        """By output: how far, in spreads, rounding alone may move it."""
        from gossamer.passes.rounding import rounding_limits

        found = rounding_limits(self._source, self.feeds, list(self.expected.values()))
        return dict(zip(self.expected, found, strict=True))


def _static_inputs(prepared: ir.Model) -> list[Tensor]:
    return [
        Tensor(value.name or "", value.dtype.numpy().name, _sizes(value.shape))
        for value in prepared.graph.inputs
        if not value.is_initializer() and value.dtype is not None and value.shape is not None
    ]


def _sizes(shape: ir.Shape) -> tuple[int, ...]:
    return tuple(d for d in shape if isinstance(d, int))  # all are: `prepare` has seen to it


def check_artifact(folder: Path, target: Target, reference: Reference) -> list[Check]:
    """One check for each way to run the artifact here; where there is none, one that says why.

    Raises JobError when the code crashes.
    """
    return [
        Check(where, errors=check_outputs(reference.expected, outputs))
        if outputs is not None
        else Check(None, reason=where)
        for where, outputs in _runs(folder, target, reference.feeds)
    ]


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
