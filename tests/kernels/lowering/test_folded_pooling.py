"""Windows of many elements, on three axes, of norms, and the places of maxima, against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import gossamer

CASES = {
    "many": ("MaxPool <kernel_shape = [9, 11], dilations = [2, 1], pads = [3, 2, 4, 1]>", (2, 3, 24, 21)),
    "cube": (
        "AveragePool <kernel_shape = [2, 3, 2], strides = [2, 1, 2], pads = [0, 1, 1, 1, 1, 0]>",
        (1, 2, 6, 7, 5),
    ),
    "norm": ("LpPool <kernel_shape = [3, 2], p = 3, strides = [2, 2]>", (1, 2, 9, 8)),
}


@pytest.mark.parametrize("case", CASES)
def test_pooling_equals_onnxruntime(case: str) -> None:
    operator, shape = CASES[case]
    text = f"float{list(shape)} x) => (float y) {{ y = {operator} (x) }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> g ({text}')
    model.graph.output[0].type.tensor_type.ClearField("shape")
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    (got,) = gossamer.compile(model).session().run(None, {"x": x})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert got.shape == expected.shape


@pytest.mark.parametrize("order", [0, 1])
def test_places_of_maxima_equal_onnxruntime(order: int) -> None:
    attributes = f"kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2], storage_order = {order}"
    text = f"float[2, 3, 7, 6] x) => (float y, int64 i) {{ y, i = MaxPool <{attributes}> (x) }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> g ({text}')
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 6)).astype(np.float32)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    got = gossamer.compile(model).session().run(None, {"x": x})
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
