"""Whatever can run a model: an artifact in our session, or an ONNX file in onnxruntime, behind one face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gossamer.runtime.errors import OptionError
from gossamer.runtime.feeds import random_feeds, read_feeds

from .options import match_inputs

if TYPE_CHECKING:
    from gossamer.passes.reference import OnnxTensor

__all__ = [
    "Engine",
    "Tensor",
    "artifact_shapes",
    "is_artifact",
    "make_feeds",
    "onnx_signature",
    "open_engine",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tensor:
    """An input or output; `shape` counts elements, `dtype` is numpy's name ("float32")."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Engine(Protocol):
    """An opened model."""

    name: str
    inputs: list[Tensor]
    output_names: list[str]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Every output, in the order of `output_names`."""
        ...


class _ArtifactEngine:
    def __init__(self, path: Path, threads: int | None) -> None:
        from gossamer.runtime.session import InferenceSession

        self.name = str(path)
        self._session = InferenceSession(path, threads=threads)
        self.inputs = [Tensor(i.name, i.dtype, tuple(i.shape)) for i in self._session.get_inputs()]
        self.output_names = [o.name for o in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        return list(self._session.run(None, dict(feeds)))


class _OnnxEngine:
    def __init__(self, path: Path, threads: int | None, shapes: Mapping[str, Sequence[int]]) -> None:
        from gossamer.passes.reference import open_onnx

        self.name = str(path)
        self.inputs, self.output_names = onnx_signature(path, shapes)
        with open_onnx(path, threads or 1) as session:  # stays usable: a path needs no temporary file
            self._session = session

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        from gossamer.passes.reference import run_opened

        return run_opened(self._session, feeds)


def onnx_signature(path: Path, shapes: Mapping[str, Sequence[int]]) -> tuple[list[Tensor], list[str]]:
    """Inputs of an ONNX file, open dimensions as `shapes` says or 1, and names of its outputs.

    Raises InputError for a file or shapes that cannot be taken.
    """
    from gossamer.passes.loading import load_model
    from gossamer.passes.reference import onnx_io

    load_model(path)  # our checks come before onnxruntime trusts the file
    given, outputs = onnx_io(path)
    match_inputs(shapes, [tensor.name for tensor in given])
    return [_resolve(tensor, shapes) for tensor in given], [tensor.name for tensor in outputs]


def _resolve(tensor: OnnxTensor, shapes: Mapping[str, Sequence[int]]) -> Tensor:
    """The input as it will be fed; a dimension without a number is 1 unless `shapes` says otherwise."""
    declared = tensor.shape
    wanted = tuple(shapes.get(tensor.name, [d if isinstance(d, int) else 1 for d in declared]))
    fits = len(declared) == len(wanted) and all(
        isinstance(d, str) or d == w for d, w in zip(declared, wanted, strict=True)
    )
    if not fits:
        raise OptionError(
            "the shape does not fit",
            where=f"--input-shape {tensor.name}",
            expected=list(declared),
            got=list(wanted),
        )
    return Tensor(tensor.name, tensor.dtype, wanted)


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

    return {i.name: tuple(i.shape) for i in read_manifest(folder / "manifest.json").inputs}


def make_feeds(inputs: Sequence[Tensor], file: Path | None, seed: int = 0) -> dict[str, Array]:
    """Feeds from an .npz file, or random ones from `seed`. Raises FeedError."""
    return read_feeds(file) if file is not None else random_feeds(inputs, seed)
