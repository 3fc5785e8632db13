"""OpenVINO on the CPU; pip install gossamer[openvino]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.errors import JobError

from ..engine import Engine, installed, onnx_signature

__all__ = ["VARIANTS", "open_model"]

VARIANTS = ("float32", "bfloat16")
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class _OpenVino:
    def __init__(
        self, path: Path, variant: str, threads: int | None, shapes: Mapping[str, Sequence[int]]
    ) -> None:
        openvino: Any = installed("openvino", "openvino")
        self.name = str(path)
        self.inputs, self.output_names = onnx_signature(path, shapes)
        options = {
            "INFERENCE_NUM_THREADS": threads or 1,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[variant],
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        try:
            model = core.read_model(path)
            model.reshape({tensor.name: list(tensor.shape) for tensor in self.inputs})
            self._request = core.compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            got = " ".join(str(error).split())[-300:]
            raise JobError("OpenVINO does not take it", where=path, got=got) from None

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        results = self._request.infer(dict(feeds), share_inputs=True)
        return [results[i] for i in range(len(self.output_names))]


def open_model(path: Path, variant: str, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> Engine:
    """Open an ONNX file. Raises InputError, JobError where the engine does not take it."""
    return _OpenVino(path, variant, threads, shapes)
