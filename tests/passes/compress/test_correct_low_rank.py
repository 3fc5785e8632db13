"""A product of low rank gives back the most of what compression took from a weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.layers import weighted_layers
from gossamer.passes.recipe import Recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import Report
from gossamer.passes.running import convert_model
from gossamer.passes.stored_weights import stored_in

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
PALETTE: dict[str, Any] = {"bits": 2, "min_elements": 1, "compensate": False}


def corrected(model: ir.Model, rank: int | None, data: Any = None, **options: Any) -> tuple[ir.Model, Report]:
    """`model` in palettes of 2 bits and, with a rank, corrected."""
    passes: list[tuple[str, dict[str, Any]]] = [("cluster-weights", PALETTE)]
    if rank is not None:
        passes.append(("correct-low-rank", {"rank": rank, **options}))
    return convert_model(model, Recipe("test", tuple(passes)), calibration=data)


def product_model(build: Any, weight: Any, rows: int) -> ir.Model:
    text = f"{HEAD} g (float[{rows}, {weight.shape[0]}] x) => (float[{rows}, {weight.shape[1]}] y)"
    model: ir.Model = build(f"{text} {{ [fc] y = MatMul (x, w) }}", {"w": weight})
    return model


def coarse(rng: np.random.Generator) -> Any:
    """A weight whose rows differ so much in size that a palette for all of them errs in few directions."""
    scale = np.exp(rng.standard_normal((48, 1)) * 1.5)
    return (rng.standard_normal((48, 40)) * scale).astype(np.float32)


def decoded(model: ir.Model) -> Any:
    (layer,) = (at for at in weighted_layers(model) if at.node.name == "fc")
    stored = stored_in(layer.weight)
    assert stored is not None
    return layer.outputs_first(stored.decode()) if layer.rows_are_outputs else stored.decode().T


def test_the_error_is_the_tail_of_the_difference_and_falls_with_the_rank(build: Any) -> None:
    weight = coarse(np.random.default_rng(0))
    model = product_model(build, weight, 48)
    found = []
    for rank in (1, 4, 16):
        result, _ = corrected(model, rank)
        (outputs,) = run_onnx(result, {"x": np.eye(48, dtype=np.float32)})
        values = np.linalg.svd((weight - decoded(result)).astype(np.float64), compute_uv=False)
        found.append(float(np.linalg.norm(outputs - weight)))
        assert found[-1] == pytest.approx(np.linalg.norm(values[rank:]), rel=1e-3)
    assert found == sorted(found, reverse=True)


def test_data_decides_what_is_given_back(build: Any) -> None:
    rng = np.random.default_rng(1)
    weight = coarse(rng)
    scale = np.exp(-np.arange(48) / 6).astype(np.float32)
    feeds = [{"x": rng.standard_normal((64, 48), dtype=np.float32) * scale} for _ in range(4)]
    plain, result = (corrected(product_model(build, weight, 64), 4, data)[0] for data in (None, feeds))
    lost = [np.linalg.norm(run_onnx(m, feeds[0])[0] - feeds[0]["x"] @ weight) for m in (plain, result)]
    assert lost[1] < 0.8 * lost[0]


@pytest.mark.parametrize(
    "layer",
    [
        "y = Conv <strides = [2, 1], pads = [1, 1, 1, 1]> (x, w, b)",
        'y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w, b)',
    ],
)
def test_a_convolution_is_corrected_beside_itself(build: Any, layer: str) -> None:
    rng = np.random.default_rng(2)
    weights = {"w": rng.standard_normal((24, 16, 3, 3)).astype("f"), "b": rng.standard_normal(24).astype("f")}
    model = build(f"{HEAD} g (float[1, 16, 8, 8] x) => (float[1, 24, h, v] y) {{ [fc] {layer} }}", weights)
    feeds = {"x": rng.standard_normal((1, 16, 8, 8), dtype=np.float32)}
    expected = run_onnx(model, feeds)[0]
    lost = [np.linalg.norm(run_onnx(corrected(model, rank)[0], feeds)[0] - expected) for rank in (None, 12)]
    assert lost[1] < 0.8 * lost[0]


@pytest.mark.parametrize("attributes", ["transA = 1, alpha = 0.5", "transB = 1, beta = 2.0", "alpha = 3.0"])
def test_a_gemm_is_corrected_with_its_attributes(build: Any, attributes: str) -> None:
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((32, 32)).astype("f"), "b": rng.standard_normal(32).astype("f")}
    text = f"{HEAD} g (float[32, 32] x) => (float[32, 32] y) {{ [fc] y = Gemm <{attributes}> (x, w, b) }}"
    model = build(text, weights)
    feeds = {"x": rng.standard_normal((32, 32), dtype=np.float32)}
    expected = run_onnx(model, feeds)[0]
    results = [corrected(model, rank)[0] for rank in (None, 8)]
    assert results[1].graph.outputs[0].name == "y"
    lost = [np.linalg.norm(run_onnx(result, feeds)[0] - expected) for result in results]
    assert lost[1] < 0.9 * lost[0]


def test_what_is_as_it_was_or_would_be_no_smaller_stays(build: Any) -> None:
    weight = coarse(np.random.default_rng(4))
    model = product_model(build, weight, 5)
    _, report = corrected(model, 30)
    (refused,) = report.passes[-1].refused
    assert "no smaller than before" in refused.reason
    _, report = convert_model(model, Recipe("test", (("correct-low-rank", {}),)))
    assert report.passes[-1].refused[0].reason == "its weights are what they were"
    _, report = corrected(model, 4, skip=True)
    assert report.passes[-1].refused[0].reason == "the recipe skips it"


def test_factors_may_be_palettes(build: Any) -> None:
    rng = np.random.default_rng(5)
    weight = (rng.standard_normal((64, 8)) @ rng.standard_normal((8, 64))).astype(np.float32)
    model = product_model(build, weight, 9)
    split = {"error": 1e-4, "keep_first": False, "keep_last": False, "min_elements": 1}
    passes = (("split-low-rank", split), ("cluster-weights", PALETTE | {"bits": 4}))
    result, report = convert_model(model, Recipe("test", passes))
    feeds = {"x": rng.standard_normal((9, 64), dtype=np.float32)}
    expected = feeds["x"] @ weight
    assert len(report.passes[-1].changed) == 2
    assert report.bytes_after < 0.06 * report.bytes_before
    assert np.linalg.norm(run_onnx(result, feeds)[0] - expected) < 0.2 * np.linalg.norm(expected)
