"""Old meanings of operators survive the upgrade to a new opset."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.passes.reference import run_onnx


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 3, 3)])
def test_slopes_of_old_models_belong_to_channels(shape: tuple[int, ...]) -> None:
    slope = np.array([0.1, 0.5, 2.0], np.float32)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    weights = [numpy_helper.from_array(slope, "slope")]
    inputs = [info[0], helper.make_tensor_value_info("slope", TensorProto.FLOAT, [3])]
    graph = helper.make_graph(
        [helper.make_node("PRelu", ["x", "slope"], ["y"])], "g", inputs, info[1:], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=3)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (got,) = run_onnx(prepare(load_model(model)), {"x": x})
    by_channel = slope.reshape(1, 3, *[1] * (len(shape) - 2))
    assert np.allclose(got, np.where(x < 0, x * by_channel, x))
