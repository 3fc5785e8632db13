"""onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Engine, onnx_signature

__all__ = ["VARIANTS", "open_model"]

VARIANTS = ("float32",)


class _Onnx:
    def __init__(self, path: Path, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> None:
        from gossamer.passes.reference import open_onnx

        self.name = str(path)
        self.inputs, self.output_names = onnx_signature(path, shapes)
        with open_onnx(path, threads or 1) as session:  # stays usable: a path needs no temporary file
            self._session = session

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        from gossamer.passes.reference import run_opened

        return run_opened(self._session, feeds)


def open_model(path: Path, variant: str, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> Engine:
    """Open an ONNX file. Raises InputError."""
    return _Onnx(path, threads, shapes)
