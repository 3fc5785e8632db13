"""Equalisation and smoothing change weights and not what the model computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.activations import Calibration
from gossamer.passes.layers import LAYER_TYPES, weighted_layers
from gossamer.passes.quantizing.equalizing import equalize
from gossamer.passes.quantizing.scaling import columns, largest, rows_of, sites
from gossamer.passes.quantizing.smoothing import smooth, smoothed_values
from gossamer.passes.quantizing.statistics import measure_maxima
from gossamer.passes.reference import run_onnx
from gossamer.passes.shapes import infer_shapes

HEAD = '<ir_version: 10, opset_import: ["": 21]> g'


def make(build: Any, body: str, inputs: str, result: str, **weights: tuple[int, ...]) -> ir.Model:
    rng = np.random.default_rng(0)
    arrays = {
        name: (rng.standard_normal(shape) * np.exp(rng.standard_normal((shape[0], *[1] * (len(shape) - 1)))))
        for name, shape in weights.items()
    }
    model: ir.Model = build(
        f"{HEAD} ({inputs} x) => ({result} y) {{ {body} }}",
        {k: v.astype(np.float32) for k, v in arrays.items()},
    )
    infer_shapes(model)
    return model


def same_outputs(model: ir.Model, before: list[np.ndarray], feeds: dict[str, np.ndarray]) -> None:
    for one, two in zip(before, run_onnx(model, feeds), strict=True):
        assert np.abs(one - two).max() <= 1e-5 * np.ptp(one)


def test_equalised_layers_have_ranges_alike_and_the_same_function(build: Any) -> None:
    body = (
        "a = Conv (x, w, b) c = Relu (a) d = Conv <group = 8, pads = [1, 1, 1, 1]> (c, dw) e = LeakyRelu (d) "
        "f = Conv <group = 2> (e, v) y = GlobalAveragePool (f)"
    )
    shapes = {"w": (8, 3, 1, 1), "b": (8,), "dw": (8, 1, 3, 3), "v": (6, 4, 1, 1)}
    model = make(build, body, "float[2, 3, 6, 6]", "float[2, 6, 1, 1]", **shapes)
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    before = run_onnx(model, feeds)
    assert equalize(model, weighted_layers(model)) == 2
    first, second, third = weighted_layers(model)
    for one, two in ((first, second), (second, third)):
        np.testing.assert_allclose(largest(rows_of(one)), largest(columns(two)), rtol=2e-3)
    same_outputs(model, before, feeds)


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv (x, w) c = Sigmoid (a) y = Conv (c, v)",
        "a = Conv (x, w) c = Relu (a) d = Conv (c, v) y = Add (c, d)",
        "a = Conv (x, w) y = Conv (a, w)",
        "a = Conv (x, w) c = Mul (a, a) y = Conv (c, v)",
    ],
)
def test_nothing_moves_through_other_functions_or_readers(build: Any, body: str) -> None:
    shapes = {"w": (3, 3, 1, 1), "v": (3, 3, 1, 1)} if "v)" in body else {"w": (3, 3, 1, 1)}
    model = make(build, body, "float[1, 3, 4, 4]", "float[1, 3, 4, 4]", **shapes)
    assert sites(model, weighted_layers(model), LAYER_TYPES) == []


def test_smoothing_moves_large_channels_into_weights(build: Any) -> None:
    body = (
        "n = LayerNormalization (x, scale, shift) a = MatMul (n, wa) b = MatMul (n, wb) "
        "s = Sigmoid (a) g = Mul (s, b) y = MatMul (g, wc)"
    )
    shapes = {"scale": (8,), "shift": (8,), "wa": (8, 12), "wb": (8, 12), "wc": (12, 4)}
    model = make(build, body, "float[2, 5, 8]", "float[2, 5, 4]", **shapes)
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 5, 8)).astype(np.float32)}
    layers, before = weighted_layers(model), run_onnx(model, feeds)
    data = Calibration([feeds])
    values = smoothed_values(model, layers)
    assert [str(value.name) for value in values] == ["n", "g"]
    maxima = measure_maxima(model, values, data)
    assert smooth(model, layers, 0.5, maxima) == 2
    same_outputs(model, before, feeds)
    after = measure_maxima(model, values, data)
    for name, array in maxima.items():
        assert np.ptp(np.log(after[name])) < 0.9 * np.ptp(np.log(array)), name
