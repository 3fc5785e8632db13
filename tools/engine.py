"""What every engine is, and what they share: inputs, shapes, feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from gossamer.runtime.errors import InputError, OptionError
from gossamer.runtime.feeds import random_feeds, read_feeds

from .options import match_inputs

if TYPE_CHECKING:
    from gossamer.passes.reference import OnnxTensor
    from gossamer.runtime.specs import TensorSpec

__all__ = [
    "Engine",
    "SelfTimed",
    "Tensor",
    "artifact_shapes",
    "check_fixed",
    "check_tflite",
    "installed",
    "is_artifact",
    "make_feeds",
    "onnx_signature",
    "resolved",
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


@runtime_checkable
class SelfTimed(Protocol):
    """An engine that computes in a process of its own and measures there."""

    def turn(self, feeds: Mapping[str, Array], seconds: float) -> list[int]:
        """Nanoseconds of each run of a turn of about `seconds`, after an untimed one."""
        ...


def onnx_signature(path: Path, shapes: Mapping[str, Sequence[int]]) -> tuple[list[Tensor], list[str]]:
    """Inputs of an ONNX file, open dimensions as `shapes` says or 1, and names of its outputs.

    Raises InputError for a file or shapes that cannot be taken.
    """
    from gossamer.passes.loading import load_model
    from gossamer.passes.reference import onnx_io

    load_model(path)  # our checks come before onnxruntime trusts the file
    given, outputs = onnx_io(path)
    match_inputs(shapes, [tensor.name for tensor in given])
    return [resolved(tensor, shapes) for tensor in given], [tensor.name for tensor in outputs]


def resolved(tensor: OnnxTensor | TensorSpec, shapes: Mapping[str, Sequence[int]]) -> Tensor:
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


def check_fixed(inputs: Sequence[Tensor], shapes: Mapping[str, Sequence[int]]) -> None:
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


def artifact_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of an artifact's inputs, by name; open sizes are 1. Raises ArtifactError."""
    from gossamer.runtime.manifest import read_manifest

    inputs = read_manifest(folder / "manifest.json").inputs
    return {i.name: tuple(size if isinstance(size, int) else 1 for size in i.shape) for i in inputs}


def make_feeds(inputs: Sequence[Tensor], file: Path | None, seed: int = 0) -> dict[str, Array]:
    """Feeds from an .npz file, or random ones from `seed`. Raises FeedError."""
    return read_feeds(file) if file is not None else random_feeds(inputs, seed)


def installed(module: str, extra: str) -> ModuleType:
    """Import an engine's Python package. Raises OptionError naming our extra that brings it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise OptionError(
            f"{extra} is not installed", got=error, advice=f"install it: pip install 'gossamer[{extra}]'"
        ) from None


def check_tflite(path: Path) -> None:
    """Refuse what is no .tflite file. Raises InputError."""
    if not path.is_file():
        raise InputError("no such file", where=path)
    with path.open("rb") as stream:
        if stream.read(8)[4:] != b"TFL3":
            raise InputError(
                "is no LiteRT model",
                where=path,
                expected="a .tflite file",
                advice="export one with litert-torch from the same PyTorch model",
            )
