"""ONNX's backend tests as they lie in the onnx package: single nodes, small exports, light real models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from gossamer.runtime.errors import OptionError

__all__ = ["SUITES", "Case", "DataSet", "find_case", "load_suite", "select_cases"]

SUITES = ("node", "simple", "pytorch-operator", "pytorch-converted", "real")
DataSet = tuple[list[Any], list[Any]]
"""Inputs in the order of the graph's, and the outputs that they give: arrays, lists of such, or None."""

_LIGHT = "onnx/backend/test/data/light/"


@dataclass(frozen=True)
class Case:
    """One test: a model, what it is fed and what it must give within `rtol` and `atol`."""

    suite: str
    name: str
    rtol: float
    atol: float
    source: Any  # onnx.backend.test's TestCase

    def model(self) -> onnx.ModelProto:
        """The model; a fresh one of a file."""
        return self.source.model if self.suite == "node" else onnx.load(_model_path(self.source))

    def named(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """Inputs of a data set by name: constants are listed among the inputs of old models."""
        graph = self.model().graph
        stored = {tensor.name for tensor in graph.initializer}
        names = [value.name for value in graph.input if value.name not in stored]
        return dict(zip(names, inputs, strict=False))

    def data_sets(self) -> Iterator[DataSet]:
        """What is fed and expected."""
        if self.suite == "node":
            for inputs, outputs in self.source.data_sets:
                yield [_array(x) for x in inputs], [_array(x) for x in outputs]
        elif self.source.model_dir is None:
            yield _light_data(_model_path(self.source))
        else:
            yield from _stored_data(Path(self.source.model_dir))


def load_suite(suite: str) -> list[Case]:
    """The tests of one suite in the order of their names; models that would be downloaded are left out."""
    return list(_load(suite))


@cache
def _load(suite: str) -> tuple[Case, ...]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests compute overflows on purpose
        found = load_model_tests(kind=suite)
    here = [t for t in found if t.model_dir or t.model is not None or (t.url or "").startswith(_LIGHT)]
    cases = [Case(suite, t.name, t.rtol, t.atol, t) for t in here]
    return tuple(sorted(cases, key=lambda case: case.name))


@cache
def _by_name(suite: str) -> dict[str, Case]:
    return {case.name: case for case in _load(suite)}


def find_case(suite: str, name: str) -> Case:
    """The test of a name."""
    return _by_name(suite)[name]


def select_cases(
    suites: Sequence[str], shard: tuple[int, int] = (1, 1), only: Sequence[str] = ()
) -> list[Case]:
    """Every N-th test of the suites from the K-th, whose name holds or matches one of `only`.

    Raises OptionError where nothing is left.
    """
    cases = [case for suite in suites for case in load_suite(suite)]
    wanted = [case for case in cases if not only or any(_matches(case.name, text) for text in only)]
    part, parts = shard
    chosen = wanted[part - 1 :: parts]
    if not chosen:
        raise OptionError(
            "no test is selected", where="--only", got=", ".join(only) or f"shard {part}/{parts}"
        )
    return chosen


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern with wildcards is the whole name, or one without a part of it."""
    if any(letter in pattern for letter in "*?["):
        return fnmatchcase(name, pattern)
    return pattern in name


def _array(item: Any) -> Any:
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item


def _model_path(source: Any) -> Path:
    if source.model_dir is not None:
        return Path(source.model_dir) / "model.onnx"
    return Path(onnx.__file__).parent.parent / str(source.url)


def _light_data(path: Path) -> DataSet:
    """Inputs as ONNX's runner makes them: an even ramp from 0 to 1."""
    graph = onnx.load(path).graph
    stored = {tensor.name for tensor in graph.initializer}
    shapes = [
        [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        for value in graph.input
        if value.name not in stored
    ]
    inputs = [
        (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32) for shape in shapes
    ]
    outputs = [
        _parsed(path.with_name(f"{path.stem}_output_{i}.pb"), value.type)
        for i, value in enumerate(graph.output)
    ]
    return inputs, outputs


def _stored_data(folder: Path) -> Iterator[DataSet]:
    graph = onnx.load(folder / "model.onnx").graph
    for place in sorted(folder.glob("test_data_set*")):
        inputs = [
            _parsed(place / f"input_{i}.pb", v.type) for i, v in enumerate(graph.input) if _has(place, i)
        ]
        outputs = [_parsed(place / f"output_{i}.pb", v.type) for i, v in enumerate(graph.output)]
        yield inputs, outputs


def _has(place: Path, index: int) -> bool:
    return (place / f"input_{index}.pb").exists()


def _parsed(path: Path, kind: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))
