"""What is measured: the zoo's models as ONNX, dense and pruned, and their artifacts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gossamer.passes.recipe import load_recipe
from gossamer.runtime.errors import JobError

from ..console import note
from .samples import quantize_by_onnxruntime, write_samples
from .single_layers import SINGLE_LAYERS, write_single_layer

__all__ = ["Builds", "Compilation", "run_tool"]

_BLOCKS_OF_8 = ("rearrange-channels.pattern=8x1", "prune.pattern=8x1")
_KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "joint-8x1": ("joint-small", _BLOCKS_OF_8),
    "int3-weights": ("int4-weights", ("quantize-weights.dtype=int3",)),
    "int2-weights": ("int4-weights", ("quantize-weights.dtype=int2",)),
}
"""Recipes with settings, by the name of the kind; all other kinds are recipes."""
_CALIBRATED = ("int8", "sparse-80-int8", "w4a8")
"""Kinds that need sample inputs."""
_BY_ONNXRUNTIME = {"onnxruntime-int8": False, "onnxruntime-int8-dynamic": True}
"""Kinds that onnxruntime's quantiser makes, and whether dynamically."""
_WHOLE = {
    # a single layer is first and last at once, which recipes treat with more care
    "cluster-weights": ("first_bits=null", "last_bits=null"),
    "prune": ("keep_first=false", "keep_last=false"),
    "quantize-weights": ("first=null",),
    "rearrange-channels": ("keep_first=false", "keep_last=false"),
}


def _settings(model: str, kind: str) -> tuple[str, list[str]]:
    """The recipe of a kind, and what is set for it."""
    recipe, own = _KINDS.get(kind, (kind, ()))
    passes = {name for name, _ in load_recipe(recipe).passes}
    whole = [
        f"{name}.{option}"
        for name, options in _WHOLE.items()
        for option in options
        if model in SINGLE_LAYERS and name in passes
    ]
    return recipe, [word for setting in (*own, *whole) for word in ("--set", setting)]


@dataclass(frozen=True)
class Compilation:
    """An artifact, and what making it took: seconds, and bytes of the largest process."""

    path: Path
    seconds: float
    peak_bytes: int


class Builds:
    """Everything of one model in the folder `work`/`model`.

    Models are made once; artifacts anew by each `Builds`, or with `reuse` only where there is none.
    """

    def __init__(self, work: Path, model: str, *, reuse: bool = False) -> None:
        self.folder = work / model
        self._model, self._reuse = model, reuse
        self._made: dict[Path, Compilation] = {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def onnx(self, kind: str = "dense") -> Path:
        """The model's file; `kind` is "dense", a recipe, or one named above. Raises JobError."""
        path = self.folder / f"{kind}.onnx"
        if path.exists():
            return path
        if kind in _BY_ONNXRUNTIME:
            note(f"onnxruntime's quantiser: {path}")
            quantize_by_onnxruntime(self.onnx(), self._samples(), path, dynamic=_BY_ONNXRUNTIME[kind])
        elif kind != "dense":
            recipe, settings = _settings(self._model, kind)
            samples: list[str | Path] = ["--calibrate", self._samples()] if kind in _CALIBRATED else []
            run_tool("convert", self.onnx(), path, "--recipe", recipe, *samples, *settings)
        elif self._model in SINGLE_LAYERS:
            write_single_layer(self._model, path)
        else:
            run_tool("export", self._model, "-o", path)
        return path

    def _samples(self) -> Path:
        """The folder of sample inputs."""
        folder = self.folder / "samples"
        write_samples(self.onnx(), folder)
        return folder

    def artifact(self, kind: str, target: str) -> Path:
        """The folder of the model compiled for `target`. Raises JobError."""
        return self.compilation(kind, target).path

    def compilation(self, kind: str, target: str) -> Compilation:
        """The same with what it took; all zero for one that was there. Raises JobError."""
        path = self.folder / kind / target
        if path not in self._made:
            self._made[path] = self._compile(kind, target, path)
        return self._made[path]

    def _compile(self, kind: str, target: str, path: Path) -> Compilation:
        if self._reuse and path.is_dir():
            return Compilation(path, 0.0, 0)
        source = self.onnx(kind)
        path.parent.mkdir(exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        # What is compiled for ARM runs under qemu, which takes minutes for a large model.
        checking = ["--no-verify"] if target.startswith("arm") else []
        seconds, peak = run_tool("compile", source, path, "--target", target, *checking)
        return Compilation(path, seconds, peak)


def run_tool(*words: str | Path) -> tuple[float, int]:
    """One command line of ours in a process of its own: its seconds, and bytes of its largest process.

    Raises JobError with what it said.
    """
    text = [str(word) for word in words]
    note("gossamer " + " ".join(text))
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gossamer.tools.cli", *text],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.read().strip().splitlines()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        got = said[-1] if said else f"exit status {process.returncode}"
        raise JobError("a build failed", where="gossamer " + " ".join(text), got=got)
    return time.monotonic() - start, usage.ru_maxrss * 1024
