"""Files that onnxruntime's optimiser saved at level EXTENDED compile, and give what the source gives."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest

import gossamer

MODELS = Path(__file__).parents[4] / "shared" / "models"


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared")
@pytest.mark.parametrize(("name", "fused"), [("mnist_cntk", "FusedConv"), ("hand_keypoint_mlp", "FusedGemm")])
def test_an_optimised_file_compiles(name: str, fused: str, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(MODELS / f"{name}.onnx", options)
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    assert (fused, "com.microsoft") in {(node.op_type, node.domain) for node in nodes}
    gossamer.compile(tmp_path / "optimised.onnx", out=tmp_path / "artifact")
