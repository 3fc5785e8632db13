"""What layers read on calibration data: rows that give a layer's outputs when multiplied by its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.activations import Calibration
from gossamer.passes.layers import weighted_layers
from gossamer.passes.reference import run_onnx

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
ALL = 10**6


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "<pads = [1, 2, 0, 1]>",
        "<strides = [2, 3], pads = [1, 1, 1, 1]>",
        "<dilations = [2, 2]>",
        '<auto_pad = "SAME_UPPER", strides = [2, 2]>',
        '<auto_pad = "SAME_LOWER", strides = [2, 2]>',
    ],
)
def test_rows_of_a_convolution_are_its_windows(build: Any, attributes: str) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((5, 4, 3, 2), dtype=np.float32)
    body = f"{{ y = Relu (x) z = Conv {attributes} (y, w) }}"
    text = f"{HEAD} g (float[2, 4, 9, 8] x) => (float[2, 5, h, w] z) {body}"
    model = build(text, {"w": weight})
    feeds = [{"x": rng.standard_normal((2, 4, 9, 8), dtype=np.float32)} for _ in range(2)]
    (rows,) = Calibration(feeds).rows(model, weighted_layers(model), ALL)
    expected = np.concatenate([np.moveaxis(run_onnx(model, f)[0], 1, -1).reshape(-1, 5) for f in feeds])
    np.testing.assert_allclose(rows @ weight.reshape(5, -1).T, expected, atol=1e-4)


def test_rows_of_products_are_those_of_their_left_sides(build: Any) -> None:
    rng = np.random.default_rng(2)
    weights = {
        "a": rng.standard_normal((6, 5), dtype=np.float32),
        "b": rng.standard_normal((7, 6)).astype("f"),
    }
    text = (
        f"{HEAD} g (float[5, 3] x) => (float[3, 7] z) "
        "{ y = Gemm <transA = 1, transB = 1> (x, a) r = Relu (y) z = Gemm <transB = 1> (r, b) }"
    )
    model = build(text, weights)
    x = rng.standard_normal((5, 3), dtype=np.float32)
    first, second = Calibration([{"x": x}]).rows(model, weighted_layers(model))
    np.testing.assert_array_equal(first, x.T)
    np.testing.assert_allclose(second, np.maximum(x.T @ weights["a"].T, 0), atol=1e-5)


def test_two_versions_of_a_model_give_the_same_pixels(cnn: ir.Model, image: dict[str, Any]) -> None:
    calibration = Calibration([image, image])
    first = list(calibration.rows(cnn, weighted_layers(cnn), 20))
    again = list(calibration.rows(cnn.clone(), weighted_layers(cnn), 20))
    assert [rows.shape[1] for rows in first] == [27, 32 * 9, 32, 64, 50 * 9, 24]
    assert all(len(rows) <= 20 for rows in first)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
