"""DeepSparse 1.8, in a Python that has it: deepsparse@/path/of/venv/bin/python:m.onnx."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from gossamer.runtime.errors import OptionError

from ..engine import Engine, onnx_signature
from ..remote import PipeChannel, RemoteEngine

__all__ = ["VARIANTS", "open_model"]

VARIANTS = ("PYTHON",)  # its licence and its old dependencies want a virtual environment of its own
_WORKER = Path(__file__).parents[1] / "deepsparse_worker.py"


def open_model(path: Path, variant: str, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> Engine:
    """Open an ONNX file. Raises InputError, JobError where DeepSparse does not take it."""
    _check_python(variant)
    inputs, outputs = onnx_signature(path, shapes)
    channel = PipeChannel([variant, _WORKER])
    options = {"copy": str(channel.scratch / "model.onnx")}
    return RemoteEngine(channel, "deepsparse", path, threads or 1, inputs, outputs, options)


def _check_python(python: str) -> None:
    command = [python, "-c", "import deepsparse.engine"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
    except OSError as error:
        got = error.strerror
    else:
        if done.returncode == 0:
            return
        got = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise OptionError(
        "deepsparse needs a Python that has it",
        expected="deepsparse@/path/of/venv/bin/python:m.onnx",
        got=f"{python}: {got}",
        advice="install it in a virtual environment of its own: pip install deepsparse==1.8.0",
    )
