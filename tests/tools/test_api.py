"""The Python API, as scripts use it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import gossamer
from gossamer.runtime.errors import ArtifactError, JobError, ModelError, OptionError

from ..tolerances import require_agreement
from .conftest import tiny_proto

SHAPES = {"x": (2, 12)}
FEEDS = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 12)}


def test_convert_compile_and_run_without_a_file() -> None:
    converted = gossamer.convert(tiny_proto(), input_shapes=SHAPES)
    assert all(check.passed for check in converted.report.checks)
    artifact = gossamer.compile(converted.model)
    assert [check.where for check in artifact.checks] == ["in process"]
    with artifact.session() as session:
        y, raw = session.run(None, FEEDS)
    assert (y.shape, raw.shape) == ((2, 8), (2, 8))
    require_agreement(y.sum(axis=1), np.ones_like(y[:, 0]), "Softmax")


def test_a_temporary_artifact_goes_with_its_object() -> None:
    artifact = gossamer.compile(tiny_proto(), input_shapes=SHAPES, verify=False)
    place = artifact.path
    assert (place / "manifest.json").is_file()
    assert artifact.checks == ()
    del artifact
    gc.collect()
    assert not place.parent.exists()


def test_a_failed_compilation_leaves_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("gossamer.tools.checking.TOLERANCE", -1.0)
    monkeypatch.setattr("gossamer.tools.verifying.Reference.limits", lambda self: {})
    with pytest.raises(JobError, match="differs from onnxruntime"):
        gossamer.compile(tiny_proto(), input_shapes=SHAPES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "proto", "ir"])
def test_every_kind_of_model_is_taken_and_left_as_it_is(tiny: Path, tmp_path: Path, kind: str) -> None:
    proto = onnx.load(tiny)
    kinds: dict[str, Any] = {"path": tiny, "text": str(tiny), "bytes": tiny.read_bytes(), "proto": proto}
    model = ir.from_proto(proto) if kind == "ir" else kinds[kind]
    gossamer.convert(model, "default", input_shapes=SHAPES).save(tmp_path / "out.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"))
    gossamer.compile(model, out=tmp_path / "artifact", input_shapes=SHAPES)
    after = ir.to_proto(model) if isinstance(model, ir.Model) else onnx.load(tiny)
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in proto.graph.node]
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_load_opens_models_and_artifacts(tiny: Path, artifacts: Path) -> None:
    model, session = gossamer.load(tiny), gossamer.load(artifacts / "host")
    assert isinstance(model, ir.Model)
    assert isinstance(session, gossamer.InferenceSession)
    assert [value.name for value in session.get_outputs()] == ["y", "raw"]


def test_load_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an artifact"):
        gossamer.load(tmp_path)
    with pytest.raises(ModelError, match="No such file"):
        gossamer.load(tmp_path / "absent.onnx")


def test_settings_and_bounds_reach_the_recipe(tiny: Path) -> None:
    settings = ["prune.layers=[Gemm, MatMul]", "prune.kernels=all", "prune.min_elements=0"]
    settings += ["prune.keep_first=false", "prune.keep_last=false"]
    report = gossamer.convert(tiny, "sparse-80", settings=settings).report
    (prune,) = [entry for entry in report.passes if entry.name == "prune"]
    assert len(prune.changed) == 2
    with pytest.raises(JobError, match="differs from its source"):
        gossamer.convert(tiny, "sparse-80", settings=settings, max_error=1e-6)
    with pytest.raises(OptionError, match="did you mean sparse-80"):
        gossamer.convert(tiny, "sparse80")
