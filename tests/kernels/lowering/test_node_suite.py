"""ONNX's own tests of the operators that quantise: scales and zero points are inputs there, not constants."""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from gossamer.kernels.building import build_artifact
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.runtime.session import InferenceSession

_ABOUT = re.compile("quantizelinear|matmulinteger|convinteger|qlinear")


@cache
def _cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package computes its expected values with overflows
        from onnx.backend.test.loader import load_model_tests

        found = load_model_tests(kind="node")
    return {case.name: case for case in found if _ABOUT.search(case.name)}


NAMES = sorted(_cases())


def _fixed(case: Any) -> Any:
    """The model, and one set of inputs and expected outputs."""
    folder = Path(case.model_dir) if case.model_dir else None
    if folder is None:
        return case.model, *(list(map(_array, tensors)) for tensors in case.data_sets[0])
    model = onnx.load(folder / "model.onnx")
    data = folder / "test_data_set_0"

    def arrays(kind: str, count: int) -> list[Any]:
        protos = [onnx.load_tensor(data / f"{kind}_{i}.pb") for i in range(count)]
        return [numpy_helper.to_array(p) for p in protos]

    return model, arrays("input", len(model.graph.input)), arrays("output", len(model.graph.output))


def _array(tensor: Any) -> Any:
    return numpy_helper.to_array(tensor) if isinstance(tensor, onnx.TensorProto) else tensor


def _run(model: onnx.ModelProto, inputs: list[Any], folder: Path) -> list[Any]:
    for value, array in zip(model.graph.input, inputs, strict=True):
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, array.shape))
    target = find_target("host")
    program = lower(prepare(load_model(model)), target)
    artifact = build_artifact(program, emit_objects(program, target), target, folder / "artifact")
    names = [value.name for value in model.graph.input]
    with InferenceSession(artifact) as session:
        return list(session.run(None, dict(zip(names, inputs, strict=True))))


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_the_standard(name: str, tmp_path: Path) -> None:
    model, inputs, expected = _fixed(_cases()[name])
    for got, wanted in zip(_run(model, inputs, tmp_path), expected, strict=True):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        if wanted.dtype == np.float32:
            np.testing.assert_allclose(got, wanted, rtol=1e-6)
        else:
            np.testing.assert_array_equal(got, wanted)
