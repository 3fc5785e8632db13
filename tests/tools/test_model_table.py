"""The table of real models."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from gossamer.tools import model_table

from .conftest import tiny_proto


def test_open_dimensions_are_named() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[batch, seq_len, 3] x, float[2] fixed, int64[N] n) => (float[batch, seq_len, 3] y) {
      y = Identity (x)
    }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert model_table.open_shapes(model) == "x: batch,seq_len,3; n: N"


def test_a_row_holds_errors_or_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "good.onnx").write_bytes(tiny_proto().SerializeToString())
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[3] x) => (float[N] y) { [d] y = Unique (x) }'
    (models / "refused.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    out = tmp_path / "models.md"
    monkeypatch.setattr(model_table, "_TARGETS", ("host",))
    monkeypatch.setattr(sys, "argv", ["model_table", str(models), "-o", str(out)])
    assert model_table.main() == 0
    good, refused = out.read_text().splitlines()[-2:]
    assert good.startswith("| good | x: batch,12 | 4 | 4 | ")
    assert float(good.split("|")[-2]) < 1e-4
    assert refused.startswith("| refused |  | 1 | 1 | ")
    assert "Unique node 'd'" in refused


def test_a_folder_without_models_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["model_table", str(tmp_path), "-o", str(tmp_path / "out.md")])
    assert model_table.main() == 2
    assert "no model is there" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
