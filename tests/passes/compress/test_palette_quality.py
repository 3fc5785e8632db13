"""The presets keep the accuracy of a real network without retraining, with and without calibration data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.loading import load_model
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.running import convert_model

SHARED = Path(__file__).resolve().parents[4] / "shared"
MODEL = SHARED / "models" / "resnet20_cifar10.onnx"
IMAGES = SHARED / "data" / "cifar10_subset.npz"
FLOAT_ACCURACY = 91.5


def prepared(images: Any) -> Any:
    """NCHW float32, by the means and deviations that the network was trained with."""
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
    scaled = (images.astype(np.float32) / 255 - mean) / deviation
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def accuracy(model: ir.Model, data: Any) -> float:
    outputs = [run_onnx(model, {"input": part})[0] for part in np.split(prepared(data["x_test"]), 2)]
    return float((np.concatenate(outputs).argmax(axis=1) == data["y_test"]).mean() * 100)


@pytest.mark.skipif(not (MODEL.exists() and IMAGES.exists()), reason="no ../shared")
@pytest.mark.parametrize(
    ("recipe", "calibrated", "largest_loss", "most_bytes"),
    [
        ("palette-4bit", False, 1.0, 0.14),
        ("palette-3bit", True, 4.0, 0.11),
    ],
)
def test_presets_keep_the_accuracy(
    recipe: str, calibrated: bool, largest_loss: float, most_bytes: float
) -> None:
    data = np.load(IMAGES)
    feeds = [{"input": prepared(data["x_train"][:100])}]
    source = load_model(MODEL)
    model, report = convert_model(source, load_recipe(recipe), calibration=feeds if calibrated else None)
    assert report.bytes_after < most_bytes * report.bytes_before
    assert accuracy(model, data) >= FLOAT_ACCURACY - largest_loss
