"""Whatever can run a model: an artifact in our session, or an ONNX file in onnxruntime, behind one face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gossamer.runtime.errors import FeedError, OptionError, UnsupportedError
from gossamer.runtime.feeds import random_feeds, read_feeds

from .options import match_inputs

__all__ = ["Engine", "Tensor", "artifact_shapes", "is_artifact", "make_feeds", "open_engine"]

_NUMPY_NAMES = {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16"}


@dataclass(frozen=True)
class Tensor:
    """An input or output; `shape` counts elements, `dtype` is numpy's name ("float32")."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Engine(Protocol):
    """An opened model."""

    name: str
    inputs: Sequence[Tensor]
    output_names: Sequence[str]

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Every output, in the order of `output_names`."""
        ...


class _ArtifactEngine:
    def __init__(self, path: Path, threads: int | None) -> None:
        from gossamer.runtime.session import InferenceSession

        self.name = str(path)
        self._session = InferenceSession(path, threads=threads)
        self.inputs = [
            Tensor(i.name, dtype_of(i.type), tuple(int(d) for d in i.shape))
            for i in self._session.get_inputs()
        ]
        self.output_names = [o.name for o in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        return list(self._session.run(None, dict(feeds)))


class _OnnxEngine:
    def __init__(self, path: Path, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> None:
        import onnxruntime as ort

        from gossamer.passes.loading import load_model

        load_model(path)  # our checks come before onnxruntime trusts the file
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many kinds, all for models that it cannot take
            raise UnsupportedError("onnxruntime cannot run it", where=path, got=first_line(error)) from error
        self.name = str(path)
        given = self._session.get_inputs()
        match_inputs(shapes, [i.name for i in given])
        self.inputs = [_resolve(i, shapes) for i in given]
        self.output_names = [o.name for o in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        try:
            return list(self._session.run(None, dict(feeds)))
        except Exception as error:  # as above
            raise FeedError(
                "onnxruntime refused the run", where=self.name, got=first_line(error)
            ) from error


def first_line(error: BaseException) -> str:
    """The first line of an exception's text; libraries put their traces below it."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def dtype_of(text: str) -> str:
    """numpy's name of onnxruntime's "tensor(float)". Raises UnsupportedError for sequences and maps."""
    inner = text.removeprefix("tensor(").removesuffix(")")
    if not text.startswith("tensor("):
        raise UnsupportedError("a value that is no tensor", got=text)
    return _NUMPY_NAMES.get(inner, inner)


def _resolve(value: Any, shapes: Mapping[str, Sequence[int]]) -> Tensor:
    """The input as it will be fed; a dimension without a number is 1 unless `shapes` says otherwise."""
    dtype = dtype_of(value.type)
    declared = list(value.shape or ())
    wanted = shapes.get(value.name)
    if wanted is None:
        return Tensor(value.name, dtype, tuple(d if isinstance(d, int) and d > 0 else 1 for d in declared))
    fixed = [d if isinstance(d, int) and d > 0 else None for d in declared]
    fits = len(fixed) == len(wanted) and all(
        f is None or f == w for f, w in zip(fixed, wanted, strict=True)
    )
    if not fits:
        raise OptionError(
            "the shape does not fit", where=f"--input-shape {value.name}", expected=declared, got=list(wanted)
        )
    return Tensor(value.name, dtype, tuple(wanted))


def _check_fixed(inputs: Sequence[Tensor], shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse shapes other than those that an artifact was compiled for. Raises OptionError."""
    match_inputs(shapes, [i.name for i in inputs])
    for tensor in inputs:
        wanted = shapes.get(tensor.name, tensor.shape)
        if tuple(wanted) != tensor.shape:
            raise OptionError(
                "the artifact is compiled for another shape",
                where=f"--input-shape {tensor.name}",
                expected=list(tensor.shape),
                got=list(wanted),
                advice="compile the model again with this --input-shape",
            )


def is_artifact(path: Path) -> bool:
    """Whether `path` names an artifact (a folder) and not a model file."""
    return path.is_dir()


def open_engine(
    path: Path, threads: int | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> Engine:
    """Open an artifact folder, or an ONNX file in onnxruntime with `threads` (default 1).

    `shapes` gives symbolic dimensions of an ONNX file numbers. Raises InputError.
    """
    if is_artifact(path):
        engine = _ArtifactEngine(path, threads)
        _check_fixed(engine.inputs, shapes or {})
        return engine
    return _OnnxEngine(path, threads, shapes or {})


def artifact_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of an artifact's inputs, by name. Raises ArtifactError."""
    from gossamer.runtime.manifest import read_manifest

    return {i.name: tuple(i.shape) for i in read_manifest(folder).inputs}


def make_feeds(
    inputs: Sequence[Tensor], file: Path | None, seed: int = 0
) -> dict[str, np.ndarray[Any, Any]]:
    """Feeds from an .npz file, or random ones from `seed`. Raises FeedError."""
    return read_feeds(file) if file is not None else random_feeds(inputs, seed)
