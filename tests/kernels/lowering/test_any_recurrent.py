"""LSTM, GRU and RNN of any number of steps and rows give onnxruntime's results, and stay in bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from .any_size import AnySize

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
SIZES = [(1, 1), (5, 1), (3, 7), (2, 13), (4, 6)]  # steps, rows


def layer(operator: str, hidden: int = 17, *, fed: bool = False, lengths: bool = False) -> onnx.ModelProto:
    """Both directions, with names for steps and rows; weights `fed` at run time."""
    rng, rows = np.random.default_rng(0), GATES[operator] * hidden
    shapes = {"W": (2, rows, 6), "R": (2, rows, hidden), "B": (2, 2 * rows)}
    weights = {name: (0.3 * rng.standard_normal(s)).astype(np.float32) for name, s in shapes.items()}
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["steps", "rows", 6])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("ends", TensorProto.INT32, ["rows"]))
    inputs.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, "rows", hidden]))
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    if fed:
        inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
        constants = []
    given = ["x", "W", "R", "B", "ends" if lengths else "", "h"]
    node = helper.make_node(operator, given, ["y", "last"], hidden_size=hidden, direction="bidirectional")
    shape: dict[str, list[Any]] = {"y": ["steps", 2, "rows", hidden], "last": [2, "rows", hidden]}
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shape.items()]
    graph = helper.make_graph([node], "layer", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def feeds(model: onnx.ModelProto, steps: int, rows: int) -> dict[str, Any]:
    """Random values of these sizes."""
    rng, found = np.random.default_rng(steps), {}
    named = {"steps": steps, "rows": rows}
    for value in model.graph.input:
        shape = [d.dim_value or named[d.dim_param] for d in value.type.tensor_type.shape.dim]
        found[value.name] = (0.3 * rng.standard_normal(shape)).astype(np.float32)
        if value.name == "ends":
            found[value.name] = rng.integers(1, steps + 1, shape).astype(np.int32)
    return found


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("options", [{}, {"lengths": True, "hidden": 16}, {"fed": True}], ids=str)
def test_any_number_of_steps_and_rows(operator: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = layer(operator, **options)
    compiled = AnySize(model, tmp_path)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for steps, rows in SIZES:
        given = feeds(model, steps, rows)
        for threads in (1, 3):
            for wanted, got in zip(session.run(None, given), compiled.run(given, threads), strict=True):
                np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6)
