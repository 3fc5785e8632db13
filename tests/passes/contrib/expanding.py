"""One-node models of onnxruntime's operators: as they are, and expanded, both run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import helper, numpy_helper

from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Case:
    """`operator` on `feeds` (None: left out), of which those at `fixed` positions are constants."""

    operator: str
    feeds: Sequence[Array | None]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ("float32",)  # element types, "" for one that is left out
    fixed: Sequence[int] = ()
    domain: str = "com.microsoft"
    opset: int = 21


def model_of(case: Case) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model and what it is fed."""
    inputs, constants, names = [], [], []
    feeds: dict[str, Array] = {}
    for position, array in enumerate(case.feeds):
        names.append("" if array is None else f"in{position}")
        if array is None:
            continue
        if position in case.fixed:
            constants.append(numpy_helper.from_array(array, names[-1]))
            continue
        feeds[names[-1]] = array
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        inputs.append(helper.make_tensor_value_info(names[-1], kind, array.shape))
    results = [f"out{i}" if kind else "" for i, kind in enumerate(case.outputs)]
    outputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)
        for name, kind in zip(results, case.outputs, strict=True)
        if kind
    ]
    node = helper.make_node(
        case.operator, names, results, name="node", domain=case.domain, **dict(case.attributes)
    )
    graph = helper.make_graph([node], "contrib", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), feeds


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """What onnxruntime gives."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    known = {value.name for value in session.get_inputs()}
    return list(session.run(None, {name: array for name, array in feeds.items() if name in known}))


def expanded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as the compiler takes it; standard operators only."""
    prepared = prepare(load_model(model))
    foreign = {node.op_type for node in prepared.graph.all_nodes() if node.domain not in ("", "ai.onnx")}
    assert not foreign, f"not expanded: {foreign}"
    proto: onnx.ModelProto = ir.to_proto(prepared)
    return proto


def check(case: Case, tolerance: float = 2e-6) -> None:
    """Raises AssertionError where the expanded model gives something else."""
    model, feeds = model_of(case)
    wanted = run(model, feeds)
    for value, array in zip(model.graph.output, wanted, strict=True):
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, array.shape))
    found = run(expanded(model), feeds)
    for position, (a, b) in enumerate(zip(wanted, found, strict=True)):
        assert a.shape == b.shape, f"output {position} of {case.operator}: {a.shape} and {b.shape}"
        assert a.dtype == b.dtype, f"output {position} of {case.operator}: {a.dtype} and {b.dtype}"
        scale = max(1.0, float(np.abs(a).max(initial=0))) if a.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * scale, err_msg=str(case))
