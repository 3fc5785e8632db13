"""Compiles a model whose sizes are open, and compares it with onnxruntime at some sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from gossamer.kernels.building import fill_artifact
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.targets import find_target
from gossamer.passes.clean import prepare
from gossamer.passes.loading import load_model
from gossamer.runtime.session import InferenceSession

__all__ = ["Value", "compiled", "graph", "node", "same_as_onnxruntime"]

Feeds = Mapping[str, np.ndarray[Any, Any]]
_TYPES = {"f": onnx.TensorProto.FLOAT, "i": onnx.TensorProto.INT64, "b": onnx.TensorProto.BOOL}
Value = tuple[str, str, list[Any]]


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node whose inputs and outputs are words of a text."""
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def graph(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[Value], outputs: Sequence[Value], **constants: Any
) -> onnx.ModelProto:
    """A model; types are f, i and b, and constants become initializers."""
    taken, given = (
        [helper.make_tensor_value_info(name, _TYPES[kind], shape) for name, kind, shape in values]
        for values in (inputs, outputs)
    )
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(list(nodes), "open", taken, given, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def compiled(
    model: onnx.ModelProto, folder: Path, shapes: Mapping[str, Sequence[int | str]] | None = None
) -> InferenceSession:
    """A session of the model for this machine."""
    target = find_target("host")
    program = lower(prepare(load_model(model), shapes), target)
    folder.mkdir()
    fill_artifact(program, emit_objects(program, target), target, folder, trial=True)
    return InferenceSession(folder, threads=2)


def same_as_onnxruntime(model: onnx.ModelProto, folder: Path, feeds: Sequence[Feeds]) -> InferenceSession:
    """Asserts that all outputs agree, shapes and types too; the session."""
    session, reference = compiled(model, folder), onnxruntime.InferenceSession(model.SerializeToString())
    for given in feeds:
        for expected, got in zip(reference.run(None, dict(given)), session.run(None, given), strict=True):
            assert (expected.shape, expected.dtype) == (got.shape, got.dtype)
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    return session
