"""Kernels of sizes known only at run time give onnxruntime's results at every size, and stay in bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from .any_size import AnySize

RNG = np.random.default_rng(0)
THREADS = (1, 3)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def model(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """`<g (inputs) => (outputs) { nodes }>` in ONNX's text form, opset 21, with initializers."""
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
    made.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    return made


def agrees(
    made: onnx.ModelProto, folder: Path, feeds: Sequence[Mapping[str, np.ndarray]], tolerance: float = 1e-5
) -> AnySize:
    """Compiled once, run with every feed; differences are shares of the largest value."""
    compiled = AnySize(made, folder)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    for feed in feeds:
        expected = session.run(None, dict(feed))
        for threads in THREADS:
            for want, got in zip(expected, compiled.run(feed, threads), strict=True):
                assert want.shape == got.shape
                spread = max(float(np.abs(want).max(initial=0)), 1e-6)
                assert np.abs(want.astype(np.float64) - got).max(initial=0) <= tolerance * spread
    return compiled


@pytest.mark.parametrize(("depth", "columns"), [(64, 192), (7, 5), (33, 100)])
def test_weights_times_any_number_of_rows(depth: int, columns: int, tmp_path: Path) -> None:
    made = model(
        f"g (float[m, {depth}] x) => (float[m, {columns}] y)"
        "{ a = MatMul(x, w) c = Add(a, b) y = Relu(c) }",
        w=floats(depth, columns), b=floats(columns),
    )  # fmt: skip
    compiled = agrees(made, tmp_path, [{"x": floats(m, depth)} for m in (1, 2, 3, 7, 8, 16, 31)])
    assert compiled.families == ["gemm"]  # bias and activation are part of it


def test_rows_of_several_axes_are_one_product(tmp_path: Path) -> None:
    made = model(
        "g (float[n, s, 20] x) => (float[n, s, 50] y) { y = MatMul(x, w) }",
        w=floats(20, 50),
    )  # fmt: skip
    compiled = agrees(made, tmp_path, [{"x": floats(n, s, 20)} for n in (1, 3) for s in (1, 5, 16)])
    assert compiled.families == ["gemm"]


def test_gemm_with_turned_weights_and_a_bias_for_each_row(tmp_path: Path) -> None:
    made = model(
        "g (float[m, 20] x, float[m, 1] c) => (float[m, 9] y) "
        "{ y = Gemm <transB: int = 1, alpha: float = 0.5, beta: float = 2.0> (x, w, c) }",
        w=floats(9, 20),
    )  # fmt: skip
    agrees(made, tmp_path, [{"x": floats(m, 20), "c": floats(m, 1)} for m in (1, 4, 10)])
