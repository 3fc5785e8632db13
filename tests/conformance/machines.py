"""The processors that conformance runs on, and how code is built and guarded for each."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from gossamer.kernels.building import build_artifact
from gossamer.kernels.building.emulating import find_emulator
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.targets import Target, find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.runtime.artifact import open_artifact
from gossamer.runtime.errors import GossamerError
from gossamer.runtime.machine import check_machine
from gossamer.runtime.specs import TargetSpec

from .graphs import Batch
from .guarded_native import run_native
from .guarded_wasm import run_wasm

__all__ = ["MACHINES", "Machine"]


@dataclass(frozen=True)
class Machine:
    """A target as it runs here: natively, under an emulator of `emulates`, or in wasmtime."""

    target_name: str
    emulates: str | None = None
    threads: Sequence[int] = (1,)

    @cached_property
    def target(self) -> Target:
        """The data of the target."""
        return find_target(self.target_name)

    def why_not(self) -> str | None:
        """Why nothing can run here, None when it can."""
        if self.target.family == "wasm":
            return None if find_spec("wasmtime") else "wasmtime is not installed"
        if self.emulates is not None:
            return None if find_emulator(self.emulates) else f"no emulator of {self.emulates} is installed"
        if platform.system() != "Linux":
            return "guarded runs are written for Linux"
        t = self.target
        try:
            check_machine(TargetSpec(t.name, t.triple, t.family, t.container, t.requires))
        except GossamerError as error:
            return str(error)
        return None

    def faults(self, batch: Batch, folder: Path) -> list[str]:
        """Compiles the batch into `folder` and runs it; a line for everything that is wrong."""
        program = lower(prepare(load_model(batch.model)), self.target)
        objects = emit_objects(program, self.target)
        artifact = open_artifact(build_artifact(program, objects, self.target, folder / "artifact"))
        if self.target.family == "wasm":
            return run_wasm(batch, artifact)
        return run_native(batch, artifact, self.target, self.emulates, self.threads, folder)


MACHINES = {
    "host": Machine("host", threads=(1, 3, 16)),
    "x86-64-v2": Machine("x86-64-v2"),
    "x86-64-v3": Machine("x86-64-v3", threads=(2,)),
    "x86-64-v3-vnni": Machine("x86-64-v3-vnni"),
    "x86-64-v4": Machine("x86-64-v4"),
    "wasm": Machine("wasm"),
    "arm64": Machine("arm64-linux", emulates="arm64", threads=(1, 2)),
    "arm64-dotprod": Machine("arm64-linux-dotprod", emulates="arm64"),
    "arm64-i8mm": Machine("arm64-linux-i8mm", emulates="arm64"),
    "armv7": Machine("armv7-linux", emulates="arm"),
}
