"""LiteRT (TensorFlow Lite with XNNPACK) on .tflite files; pip install gossamer[litert]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.errors import InputError

from ..engine import Engine, Tensor, check_fixed, check_tflite, installed

__all__ = ["VARIANTS", "open_model"]

VARIANTS = ("xnnpack",)


class _LiteRt:
    def __init__(self, path: Path, threads: int | None) -> None:
        interpreter: Any = installed("ai_edge_litert.interpreter", "litert")
        self.name = str(path)
        try:
            self._model = interpreter.Interpreter(str(path), num_threads=threads or 1)
            self._model.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            got = " ".join(str(error).split())[:300]
            raise InputError("LiteRT does not take it", where=path, got=got) from None
        inputs, self._outputs = self._model.get_input_details(), self._model.get_output_details()
        self.inputs = [
            Tensor(i["name"], np.dtype(i["dtype"]).name, tuple(map(int, i["shape"]))) for i in inputs
        ]
        self._places = {i["name"]: i["index"] for i in inputs}
        self.output_names = [o["name"] for o in self._outputs]

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        for name, place in self._places.items():
            self._model.set_tensor(place, feeds[name])
        self._model.invoke()
        return [self._model.get_tensor(output["index"]) for output in self._outputs]


def open_model(path: Path, variant: str, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> Engine:
    """Open a .tflite file. Raises InputError."""
    check_tflite(path)
    engine = _LiteRt(path, threads)
    check_fixed(engine.inputs, shapes)
    return engine
