"""Run WebAssembly artifacts in Node, with the JavaScript runtime that ships with them."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from .errors import ArtifactError, FeedError, GossamerError, JobError

__all__ = ["NodeResult", "node_available", "node_command", "run_in_node"]

_RUNNER = Path(__file__).parent / "web" / "node" / "run.mjs"
_RELAXED = "--experimental-wasm-relaxed-simd"
_ERRORS: dict[str, type[GossamerError]] = {
    "manifest": ArtifactError,
    "artifact": ArtifactError,
    "feed": FeedError,
}


@dataclass(frozen=True)
class NodeResult:
    """Outputs in the manifest's order; times in milliseconds, `ms` one per run with the first included.

    `kernels` holds for each run of a profile when each kernel ended, from the start of the first one.
    """

    outputs: list[np.ndarray[Any, Any]]
    variant: str  # "relaxed" or "simd"
    ms: list[float]
    first_ms: float
    load_ms: float
    kernels: list[list[float]] = field(default_factory=list)


def _version(*arguments: str) -> str | None:
    """What `node arguments --version` prints; None when it fails."""
    node = which("node")
    if node is None:
        return None
    try:
        done = subprocess.run(
            [node, *arguments, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def _found() -> tuple[list[str], str | None]:
    """The command line that starts Node, and why it cannot be used."""
    version = _version()
    if version is None:
        return [], "node is not installed"
    match = re.fullmatch(r"v(\d+)\.(\d+)\..*", version)
    number = (int(match[1]), int(match[2])) if match else (0, 0)
    if number < (20, 16):
        return [], f"node is too old: {version}, needs 20.16"
    # Relaxed SIMD is on by default in newer engines, which in the end refuse the flag.
    flags = [_RELAXED] if number < (22, 0) and _version(_RELAXED) else []
    return [which("node") or "node", *flags], None


def node_available() -> str | None:
    """None when artifacts can be run in Node here, else the reason why not."""
    return _found()[1]


def node_command() -> list[str]:
    """Node and the flags that it needs for relaxed SIMD. Raises JobError without Node."""
    command, reason = _found()
    if reason:
        raise JobError(
            "cannot run WebAssembly", where="node", got=reason, advice="install Node 20.16 or newer"
        )
    return list(command)


def run_in_node(
    artifact_dir: str | Path,
    feeds_in_order: Sequence[np.ndarray[Any, Any]],
    repeat: int = 1,
    variant: str | None = None,
    threads: int = 1,
    profile: bool = False,
    timeout: float = 600.0,
) -> NodeResult:
    """Run the artifact in `artifact_dir` `repeat` times on one set of inputs.

    `feeds_in_order`: one array per input, of its shape and dtype, in the manifest's order. `variant` is
    "relaxed" or "simd"; None takes the fastest that Node has. `threads` compute one run. A
    `profile` notes the time after every kernel, of one thread. `timeout` is in seconds, for everything.
    Raises ArtifactError, FeedError, or JobError when Node is missing, fails or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="gossamer-node-") as folder:
        inputs, outputs = Path(folder, "inputs"), Path(folder, "outputs")
        inputs.mkdir()
        outputs.mkdir()
        for index, array in enumerate(feeds_in_order):
            (inputs / f"{index}.bin").write_bytes(_little_endian(array))
        shapes = [np.shape(array) for array in feeds_in_order]
        (inputs / "shapes.json").write_text(json.dumps(shapes), encoding="utf-8")
        command = [
            *node_command(),
            str(_RUNNER),
            str(Path(artifact_dir).resolve()),
            str(inputs),
            str(outputs),
        ]
        command += ["--repeat", str(repeat), "--threads", str(threads)]
        command += ["--variant", variant] if variant else []
        command += ["--profile"] if profile else []
        answer = _answer(command, timeout)
        return NodeResult(
            [_output(outputs / f"{index}.bin", spec) for index, spec in enumerate(answer["outputs"])],
            answer["variant"],
            answer["ms"],
            answer["first_ms"],
            answer["load_ms"],
            answer.get("kernels", []),
        )


def _answer(command: list[str], timeout: float) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise JobError("took too long", where="node", expected=f"at most {timeout:g} s") from None
    lines = done.stdout.strip().splitlines()
    if not lines:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise JobError("the run in Node failed", where="node", got=f"{reason} (exit code {done.returncode})")
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        raise _ERRORS.get(answer["code"], JobError)(answer["error"])
    return answer


def _little_endian(array: np.ndarray[Any, Any]) -> bytes:
    return np.asarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _output(path: Path, spec: dict[str, Any]) -> np.ndarray[Any, Any]:
    dtype = np.dtype(spec["type"])
    array = np.fromfile(path, dtype=dtype.newbyteorder("<"))
    return array.astype(dtype, copy=False).reshape(spec["shape"])
