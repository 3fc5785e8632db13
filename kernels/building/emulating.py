"""Runs the code of other machines' artifacts under qemu's user-mode emulation."""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from gossamer.runtime.artifact import Artifact, open_artifact
from gossamer.runtime.element_types import array_type
from gossamer.runtime.errors import ArtifactError, JobError
from gossamer.runtime.feeds import check_feeds
from gossamer.runtime.manifest import Manifest
from gossamer.runtime.specs import TensorSpec
from gossamer.runtime.tables import symbol_values

from .native import RUNTIME_FILES
from .toolchain import compile_c, runtime_source, zig

__all__ = ["Emulation", "find_emulator", "run_emulated", "why_not_emulated"]

Array = np.ndarray[Any, np.dtype[Any]]
EMULATORS = {"arm64": ("qemu-aarch64", "qemu-aarch64-static"), "arm": ("qemu-arm", "qemu-arm-static")}
TRIPLES = {"arm64": "aarch64-linux-musl", "arm": "arm-linux-musleabihf"}
MOST_SECONDS = 1800


@dataclass(frozen=True)
class Emulation:
    """`outputs` in the model's order, and the time of each run, as long as the emulator took for it."""

    outputs: list[Array]
    nanoseconds: list[int]
    emulator: str


def find_emulator(family: str) -> str | None:
    """The path of the program that emulates a processor family ("arm64", "arm"), or None."""
    return next((path for name in EMULATORS.get(family, ()) if (path := which(name))), None)


def why_not_emulated(artifact: Artifact) -> str | None:
    """Why the artifact cannot run under emulation here, or None when it can."""
    target = artifact.manifest.target
    if target.container != "elf" or target.family not in EMULATORS:
        return f"no emulator is known for {target.triple}"
    if find_emulator(target.family) is None:
        return f"{EMULATORS[target.family][0]} is not installed (Debian, Ubuntu: apt install qemu-user)"
    return None


def run_emulated(
    artifact: Artifact | Path,
    feeds: Mapping[str, Array],
    *,
    threads: int = 1,
    repeats: int = 1,
    options: Sequence[str] = (),
    mark_kernels: bool = False,
) -> Emulation:
    """Links the artifact's static library into a program for its processor and runs that on `feeds`.

    `options` are words for the emulator; `mark_kernels` makes a counting mark after every kernel too, of
    one thread. Only the C library is another one: a static program needs none of the machine's. Raises
    ArtifactError where `why_not_emulated` gives a reason, FeedError for wrong feeds, JobError when the
    program fails.
    """
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    reason = why_not_emulated(opened)
    emulator = find_emulator(opened.manifest.target.family)
    if reason is not None or emulator is None:
        raise ArtifactError("cannot be emulated", where=opened.path, got=reason)
    arrays = check_feeds(opened.manifest.inputs, feeds)
    with tempfile.TemporaryDirectory(prefix="gossamer-") as scratch:
        work = Path(scratch)
        program = _link_runner(opened, work, mark_kernels)
        for i, array in enumerate(arrays):
            (work / f"input{i}").write_bytes(array.tobytes())
        outputs = [work / f"output{i}" for i in range(len(opened.manifest.outputs))]
        inputs = [work / f"input{i}" for i in range(len(arrays))]
        weights = opened.manifest.weights.file
        location = opened.file(weights) if weights is not None else "embedded"
        table = _write_table(opened.manifest, arrays, work / "table")
        command = [emulator, *options, program, location, threads, repeats, *table, *inputs, *outputs]
        printed = _run([str(word) for word in command])
        numbers = np.frombuffer(table[0].read_bytes(), np.int64) if table else ()
        return Emulation(
            outputs=[
                _read(path, tensor, numbers)
                for path, tensor in zip(outputs, opened.manifest.outputs, strict=True)
            ],
            nanoseconds=[int(line) for line in printed.split()],
            emulator=Path(emulator).name,
        )


def _write_table(manifest: Manifest, inputs: Sequence[Array], path: Path) -> list[Path]:
    """The file of the model's table with the symbols of these inputs; nothing where it has none."""
    if manifest.table is None:
        return []
    table = np.zeros(manifest.table.count, np.int64)
    shapes = [array.shape for array in inputs]
    for slot, value in symbol_values(manifest.table, manifest.inputs, shapes).items():
        table[slot] = value
    path.write_bytes(table.tobytes())
    return [path]


def _read(path: Path, tensor: TensorSpec, table: Sequence[int] | Array) -> Array:
    """An output of the size that the table says; its file may be longer."""
    shape = tensor.sizes(table)
    data = np.frombuffer(path.read_bytes(), array_type(tensor.dtype))
    return data[: math.prod(shape)].reshape(shape).copy()


def _link_runner(artifact: Artifact, work: Path, mark_kernels: bool) -> Path:
    """A static program from our runner, our C runtime, and the model in libmodel.a."""
    manifest = artifact.manifest
    static = artifact.code("static")
    if not static:
        raise ArtifactError("holds no static library", where=artifact.path)
    triple = TRIPLES[manifest.target.family]
    flags = [f"-DMODEL=gossamer_model_{manifest.symbol}", *(["-DMARK_KERNELS"] if mark_kernels else [])]
    renamed = ["-Dgossamer_sync=gossamer_unused_sync"] if mark_kernels else []
    objects = [compile_c(runtime_source("runner.c"), work / "runner.o", triple, *flags)]
    objects += [
        compile_c(runtime_source(name), work / f"{name}.o", triple, *renamed) for name in RUNTIME_FILES
    ]
    program = work / "runner"
    library = artifact.file(static[0].file)
    zig("cc", "-target", triple, "-static", "-O2", "-s", *objects, library, "-o", program)
    return program


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise JobError("the emulated program takes too long", expected=f"{MOST_SECONDS} seconds") from error
    if done.returncode != 0:
        lines = done.stderr.splitlines()
        got = lines[-1] if lines else f"exit status {done.returncode}"
        raise JobError("the emulated program failed", where=Path(command[0]).name, got=got)
    return done.stdout
