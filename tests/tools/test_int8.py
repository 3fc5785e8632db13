"""From a float model and sample inputs to an artifact that computes in integers, by the commands alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from .conftest import Run

_MODEL = """
<ir_version: 10, opset_import: ["": 21]>
net (float[1, 3, 12, 12] x) => (float[1, 5] y) {
  [stem] a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
  [act] b = Relu (a)
  [expand] c = Conv (b, w1, b1)
  [sigmoid] s = Sigmoid (c)
  [silu] d = Mul (c, s)
  [depthwise] e = Conv <group = 16, pads = [1, 1, 1, 1]> (d, w2)
  [project] f = Conv (e, w3)
  [sum] g = Add (f, b)
  [pool] p = GlobalAveragePool (g)
  [flat] h = Flatten (p)
  [head] y = Gemm <transB = 1> (h, w4, b4)
}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small residual network with SiLU and a depthwise convolution."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(_MODEL)
    shapes = {"w0": (16, 3, 3, 3), "b0": (16,), "w1": (16, 16, 1, 1), "b1": (16,), "w2": (16, 1, 3, 3)}
    shapes |= {"w3": (16, 16, 1, 1), "w4": (5, 16), "b4": (5,)}
    for name, shape in shapes.items():
        array = (rng.standard_normal(shape) * 0.3).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """One file with eight samples of the model's input."""
    path = tmp_path / "samples.npz"
    np.savez(path, x=np.random.default_rng(1).standard_normal((8, 3, 12, 12)).astype(np.float32))
    return path


def test_a_model_is_quantised_compiled_and_runs_in_integers(
    run: Run, model: Path, samples: Path, tmp_path: Path
) -> None:
    out, artifact = tmp_path / "int8.onnx", tmp_path / "artifact"
    result = run(
        "convert", model, "-o", out, "--recipe", "int8", "--calibrate", samples, "--max-error", "0.05"
    )
    assert result.code == 0, result.err
    assert run("compile", out, "-o", artifact, "--target", "host").code == 0
    ledger = run("inspect", artifact, "--json").data["ledger"]
    assert ledger["integer_nodes"] >= 12
    assert len(ledger["left"]) <= 4


def test_statistics_are_saved_and_used_in_place_of_data(
    run: Run, model: Path, samples: Path, tmp_path: Path
) -> None:
    file = tmp_path / "statistics.npz"
    plain = ["--set", "quantize.operators={}", "--recipe", "int8"]
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    saving = ["--calibrate", samples, "--set", f"quantize.save={file}"]
    assert run("convert", model, one, *plain, *saving).code == 0
    assert run("convert", model, two, *plain, "--set", f"quantize.statistics={file}").code == 0
    assert one.read_bytes() == two.read_bytes()


def test_dynamic_int8_needs_no_data(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "dynamic.onnx"
    result = run("convert", model, out, "--recipe", "int8-dynamic", "--max-error", "0.05")
    assert result.code == 0, result.err
    operators = [node.op_type for node in onnx.load(out).graph.node]
    assert operators.count("MatMulInteger") == 1
    assert operators.count("Conv") == 4


def test_static_int8_without_data_says_what_to_do(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("convert", model, tmp_path / "out.onnx", "--recipe", "int8")
    assert result.code == 2
    assert re.search(r"--calibrate .*int8-dynamic", " ".join(result.err.split()))
