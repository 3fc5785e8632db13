"""On a real model, factors that were fitted to data keep what plain singular values lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.loading import load_model
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import open_onnx, run_opened
from gossamer.passes.running import convert_model

SHARED = Path(__file__).parents[3] / ".." / "shared"
MODEL, DATA = SHARED / "models" / "mlperf_kws_dscnn.onnx", SHARED / "data" / "kws01_features.npz"


def accuracy(model: ir.Model, features: Any, labels: Any) -> float:
    with open_onnx(model) as session:
        found = [int(run_opened(session, {"input": x})[0].argmax()) for x in features]
    return float(np.mean(np.array(found) == labels))


@pytest.mark.skipif(not (MODEL.is_file() and DATA.is_file()), reason="the shared models are absent")
def test_factors_fitted_to_data_beat_plain_ones_at_the_same_bytes() -> None:
    data = np.load(DATA)
    features = ((data["x"].astype(np.float32) - 83) * np.float32(0.5847029))[:, None, None]
    labels, model = data["y"], load_model(MODEL)
    feeds = [{"input": x} for x in features[500:700]]
    recipe = load_recipe("low-rank")
    scores = list[float]()
    for calibration in (None, feeds):
        converted, report = convert_model(model, recipe, calibration=calibration)
        (split,) = (entry for entry in report.passes if entry.name == "split-low-rank")
        assert 0.69 <= split.bytes_after / split.bytes_before <= 0.7
        scores.append(accuracy(converted, features[:300], labels[:300]))
    plain, fitted = scores
    assert accuracy(model, features[:300], labels[:300]) > 0.85
    assert fitted > 0.75
    assert fitted > plain + 0.2
