"""Runs a batch in a program of its own, every buffer between forbidden pages (guarded.c)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gossamer.kernels.building.emulating import TRIPLES, find_emulator
from gossamer.kernels.building.toolchain import compile_c, platform_triple, runtime_source, zig
from gossamer.kernels.targets import Target
from gossamer.runtime.artifact import Artifact
from gossamer.runtime.specs import TensorSpec

from .bounded import Array
from .graphs import Batch

__all__ = ["run_native"]

SECONDS = 600


def run_native(
    batch: Batch, artifact: Artifact, target: Target, emulates: str | None, threads: Sequence[int], work: Path
) -> list[str]:
    """A line for each fault: forbidden memory touched, other memory mattered, or a value beyond its bound."""
    manifest = artifact.manifest
    program = _link(artifact, target, emulates, work)
    (work / "inputs").write_bytes(b"".join(batch.feeds[t.name].tobytes() for t in manifest.inputs))
    weights = artifact.file(manifest.weights.file or "weights.bin")
    results = {count: work / f"outputs{count}" for count in threads}
    rounds = [word for count, path in results.items() for word in (str(count), path)]
    emulator = [] if emulates is None else [find_emulator(emulates) or ""]
    command = [*emulator, program, weights, work / "inputs", *rounds]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    found = [_named(line, batch, artifact) for line in done.stdout.splitlines()]
    if done.returncode not in (0, 1):
        return [*found, f"stopped with status {done.returncode}: {done.stderr.strip()}"]
    for count, path in results.items():
        outputs = _split(path.read_bytes(), manifest.outputs)
        found += [f"{count} threads: {line}" for line in batch.faults(outputs)]
    return found


def _link(artifact: Artifact, target: Target, emulates: str | None, work: Path) -> Path:
    """guarded.c and the model out of its static library; nothing of the runtime is called."""
    native = emulates is None
    triple = platform_triple(target) if native else TRIPLES[target.family]
    include = f"-I{runtime_source('gossamer.h').parent}"
    model = f"-DMODEL=gossamer_model_{artifact.manifest.symbol}"
    source = Path(__file__).with_name("guarded.c")
    guarded = compile_c(source, work / "guarded.o", triple, include, model)
    static = artifact.file(artifact.code("static")[0].file)
    how = ["-rtlib=none", "-lm", "-lpthread"] if native else ["-static"]
    zig("cc", "-target", triple, "-O2", guarded, static, *how, "-o", work / "guarded")
    return work / "guarded"


def _split(data: bytes, tensors: Sequence[TensorSpec]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    start = 0
    for tensor in tensors:
        part = np.frombuffer(data[start : start + tensor.bytes], tensor.dtype)
        arrays[tensor.name] = part.reshape(tensor.shape)
        start += tensor.bytes
    return arrays


def _named(line: str, batch: Batch, artifact: Artifact) -> str:
    """The line with the case that an input or output belongs to."""
    found = re.match(r"(input|output) (\d+)", line)
    if found is None:
        return line
    tensors = artifact.manifest.inputs if found[1] == "input" else artifact.manifest.outputs
    name = tensors[int(found[2])].name
    return f"{batch.label(name)}: {name}, {line}"
