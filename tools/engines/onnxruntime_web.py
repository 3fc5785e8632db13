"""onnxruntime-web's WebAssembly build, in Node or Chromium; from npm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine import Engine, onnx_signature
from ..javascript import open_javascript

__all__ = ["VARIANTS", "open_model"]

VARIANTS = ("node", "chromium")
_LIBRARIES = {"node": "ort.node.min.mjs", "chromium": "ort.wasm.min.mjs"}


def open_model(path: Path, variant: str, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> Engine:
    """Open an ONNX file. Raises InputError, JobError where the engine does not take it."""
    inputs, outputs = onnx_signature(path, shapes)
    library = f"onnxruntime-web/dist/{_LIBRARIES[variant]}"
    return open_javascript("onnxruntime-web", variant, path, threads or 1, inputs, outputs, library=library)
