"""Instructions that models execute on AArch64, counted under qemu; they repeat where times do not."""

from __future__ import annotations

import platform
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.artifact import Artifact, open_artifact
from gossamer.runtime.errors import ArtifactError, JobError, OptionError

from .console import Progress
from .counting_onnxruntime import run_onnxruntime
from .engine import resolved
from .engines import Choice, make_feeds, onnx_signature, parse_choice

__all__ = ["CLASSES", "Count", "Counter", "count_instructions", "find_counter", "open_counted"]

CLASSES = ("multiply_add", "vector", "load", "store", "branch", "other")
FAMILY, CPU = "arm64", "cortex-a76"  # without SVE, as most phones
_RUNS = 2  # of onnxruntime, whose first run also plans its memory; ours are all alike
_OLDEST_API, _COPYING_API = 1, 3  # of qemu's plugins: before 9.0, and from 9.1 on
_COUNTED = ("gossamer", "onnxruntime")
Program = Callable[[Sequence[str]], object]  # runs under the emulator with these options


@dataclass(frozen=True)
class Count:
    """Instructions of one inference on one thread; `ratio` is `total` over the baseline's.

    `multiply_add` counts fused and widening multiply-accumulates and dot products, `vector` all other vector
    and floating point arithmetic, `load` and `store` one for each instruction whatever its width.
    """

    name: str
    engine: str
    total: int
    ratio: float
    multiply_add: int
    vector: int
    load: int
    store: int
    branch: int
    other: int

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Counter:
    """The emulator, and our plugin built for it."""

    emulator: Path
    plugin: Path

    def count(self, program: Program, spans: int = 1) -> list[dict[str, int]]:
        """Instructions by class between each of the last `spans` + 1 marks of `program`. Raises JobError."""
        totals = self.plugin.with_name("totals")
        totals.unlink(missing_ok=True)
        program(["-cpu", CPU, "-plugin", f"{self.plugin},out={totals}"])
        lines = totals.read_text().split("\n")[:-1] if totals.exists() else []
        if len(lines) <= spans:
            raise JobError(
                "the emulated program was not counted",
                where=self.emulator,
                expected=f"{spans + 1} marks",
                got=len(lines),
            )
        totals_at = np.array([line.split() for line in lines[-spans - 1 :]], dtype=np.int64)
        return [dict(zip(CLASSES, map(int, span), strict=True)) for span in np.diff(totals_at, axis=0)]


def count_instructions(
    models: Sequence[Choice | str | Path],
    *,
    baseline: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    progress: Progress = lambda label, done, total: None,
) -> list[Count]:
    """Count for arm64-linux artifacts and, in onnxruntime for AArch64, ONNX files; on the same random inputs.

    Ratios are to `models[baseline]`. Raises InputError or JobError.
    """
    choices = [m if isinstance(m, Choice) else parse_choice(m) for m in models]
    counted: list[dict[str, int]] = []
    with tempfile.TemporaryDirectory(prefix="gossamer-") as scratch:
        counter = find_counter(Path(scratch))
        for index, choice in enumerate(choices):
            progress(str(choice.path), index, len(choices))
            counted += counter.count(_program(choice, shapes or {}, seed))
    base = sum(counted[baseline].values())
    return [
        Count(str(choice.path), choice.engine, total := sum(by.values()), total / base, **by)
        for choice, by in zip(choices, counted, strict=True)
    ]


def _program(choice: Choice, shapes: Mapping[str, Sequence[int]], seed: int) -> Program:
    """What runs the model under the emulator, with a mark before and after each run."""
    path = choice.path
    if choice.engine not in _COUNTED:
        raise OptionError(
            "its instructions are not counted", where=str(choice), expected=" or ".join(_COUNTED)
        )
    if choice.engine == "onnxruntime":
        inputs, outputs = onnx_signature(path, shapes)
        return partial(run_onnxruntime, path, make_feeds(inputs, None, seed), outputs, _RUNS)
    from gossamer.kernels.building.emulating import run_emulated

    artifact, feeds = open_counted(path, seed)
    return lambda options: run_emulated(artifact, feeds, options=options)


def open_counted(path: Path, seed: int) -> tuple[Artifact, dict[str, np.ndarray[Any, Any]]]:
    """An artifact for AArch64 and random inputs of it. Raises ArtifactError for another processor's."""
    artifact = open_artifact(path)
    if artifact.manifest.target.family != FAMILY:
        raise ArtifactError(
            "instructions are counted on AArch64 only",
            where=path,
            expected="an artifact for arm64-linux",
            got=f"one for {artifact.manifest.target.name}",
        )
    tensors = [resolved(i, {}) for i in artifact.manifest.inputs]
    return artifact, make_feeds(tensors, None, seed)


def find_counter(work: Path) -> Counter:
    """Find the emulator and build the plugin in the folder `work`. Raises OptionError where there is none."""
    from gossamer.kernels.building.emulating import find_emulator
    from gossamer.kernels.building.toolchain import runtime_source, zig

    found = find_emulator(FAMILY)
    if found is None or "-plugin" not in _said(found, "-h"):
        raise OptionError(
            "counting instructions needs qemu with plugins",
            expected="qemu-aarch64, dynamically linked",
            got=found or "none",
            advice="install it (Debian, Ubuntu: apt install qemu-user)",
        )
    plugin = work / "libcounting.so"
    machine = "aarch64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"
    flags = ("-shared", "-fPIC", "-O2", "-fvisibility=hidden", f"-DQEMU_API={_plugin_api(found)}")
    include = f"-I{runtime_source('counting_mark.h').parent}"
    source = Path(__file__).with_name("peers") / "counting_plugin.c"
    zig("cc", "-target", f"{machine}-linux-gnu.2.17", *flags, include, source, "-o", plugin)
    return Counter(Path(found), plugin)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60).stdout


def _plugin_api(emulator: str) -> int:
    """The version of the plugin interface that qemu wants; only 7.2's has been tried."""
    words = _said(emulator, "--version").split()
    version = next((w for w in words if w[:1].isdigit()), "0")
    major, minor = (int(part) for part in f"{version}.0".split(".")[:2])
    if (major, minor) < (9, 0):
        return _OLDEST_API
    return _COPYING_API if (major, minor) > (9, 0) else _COPYING_API - 1
