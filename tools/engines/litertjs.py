"""LiteRT.js (XNNPACK in WebAssembly) on .tflite files, in Chromium; from npm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine import Engine, check_fixed, check_tflite
from ..javascript import open_javascript

__all__ = ["VARIANTS", "open_model"]

VARIANTS = ("chromium",)


def open_model(path: Path, variant: str, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> Engine:
    """Open a .tflite file. Raises InputError, JobError where the engine does not take it."""
    check_tflite(path)
    library = "@litertjs/core/dist/index.js"
    engine = open_javascript("litertjs", variant, path, threads or 1, library=library)
    check_fixed(engine.inputs, shapes)
    return engine
