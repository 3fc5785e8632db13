"""Many one-node graphs as one model: compiled for this machine once and compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from gossamer.kernels.building import build_artifact
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.runtime.comparing import tensor_error
from gossamer.runtime.session import InferenceSession

from ...tolerances import tolerance

OPSET = 21
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Case:
    """`operator` on `feeds`, of which those at `fixed` positions are constants (None: left out)."""

    operator: str
    feeds: Sequence[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    fixed: Sequence[int] = ()
    outputs: Sequence[str] = ("float32",)


def check(cases: Sequence[Case], folder: Path) -> None:
    """Raises AssertionError naming every case whose result differs."""
    model, feeds = _model(cases)
    expected = _reference(model, feeds)
    for value in model.graph.output:  # shape inference does not know every operator
        value.type.tensor_type.shape.Clear()
        for extent in expected[value.name].shape:
            value.type.tensor_type.shape.dim.add(dim_value=extent)
    program = lower(prepare(load_model(model)), find_target("host"))
    target = find_target("host")
    session = InferenceSession(build_artifact(program, emit_objects(program, target), target, folder / "a"))
    got = session.run(None, feeds)
    names = [value.name for value in session.get_outputs()]
    found = dict(zip(names, got, strict=True))
    wrong = []
    for name, reference in expected.items():
        case = cases[int(name.split("_")[0][1:])]
        error = tensor_error(reference, found[name])
        if not error.relative <= tolerance(case.operator):
            shapes = [None if f is None else f.shape for f in case.feeds]
            wrong.append(f"{name} {case.operator} {case.attributes} {shapes}: {error}")
    assert not wrong, "\n".join(wrong)


def _reference(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def _model(cases: Sequence[Case]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    nodes, inputs, outputs, constants = [], [], [], []
    feeds: dict[str, Array] = {}
    for number, case in enumerate(cases):
        names = []
        for position, array in enumerate(case.feeds):
            name = f"c{number}_in{position}"
            names.append(name if array is not None else "")
            if array is None:
                continue
            if position in case.fixed:
                constants.append(numpy_helper.from_array(array, name))
                continue
            feeds[name] = array
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
        results = [f"c{number}_out{i}" if kind else "" for i, kind in enumerate(case.outputs)]
        for name, dtype in zip(results, case.outputs, strict=True):
            if dtype:
                element = int(getattr(onnx.TensorProto, {"float32": "FLOAT"}.get(dtype, dtype.upper())))
                outputs.append(helper.make_tensor_value_info(name, element, None))
        nodes.append(helper.make_node(case.operator, names, results, name=f"n{number}", **case.attributes))
    graph = helper.make_graph(nodes, "conformance", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnx.shape_inference.infer_shapes(model), feeds
