"""A small model, its artifacts built once, and the command line in process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gossamer.tools.cli import main

TEXT = """
<ir_version: 10, opset_import: ["": 21]>
tiny (float[batch, 12] x) => (float[batch, 8] y, float[batch, 8] raw) {
  [hidden] h = Gemm <transB = 1> (x, w0, b0)
  [act] a = Relu (h)
  [out] raw = MatMul (a, w1)
  [squash] y = Softmax (raw)
}
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """stdout, which must be JSON and nothing else."""
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command line in this process."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def tiny_proto() -> onnx.ModelProto:
    """Two matrix products with a ReLU between; its batch has no size."""
    rng = np.random.default_rng(1)
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in {"w0": (16, 12), "b0": (16,), "w1": (16, 8)}.items():
        array = rng.standard_normal(shape, dtype=np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return proto


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in a file."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    path.write_bytes(tiny_proto().SerializeToString())
    return path


@pytest.fixture(scope="session")
def artifacts(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small model's artifacts for `host` and `wasm`, batch 2."""
    out = tmp_path_factory.mktemp("artifacts") / "both"
    words = ["compile", tiny, out, "--target", "host,wasm", "--input-shape", "x:2,12", "--json"]
    assert main([str(word) for word in words]) == 0
    return out
