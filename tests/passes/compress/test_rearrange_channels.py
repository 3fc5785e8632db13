"""Rearranging keeps the model's results and more of the weights that pruning in groups leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.activations import Calibration
from gossamer.passes.channels.arranging import Target, kept_share
from gossamer.passes.compress.prune import Prune
from gossamer.passes.compress.rearrange_channels import RearrangeChannels
from gossamer.passes.context import Context
from gossamer.passes.loading import load_model
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import open_onnx, run_onnx, run_opened
from gossamer.passes.report import PassReport
from gossamer.passes.running import run_passes
from gossamer.runtime.errors import OptionError


def rearrange(model: ir.Model, **options: Any) -> PassReport:
    report: PassReport = RearrangeChannels(**options)(model).report  # type: ignore[attr-defined]
    return report


def weight(model: ir.Model, name: str) -> Any:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def kept(model: ir.Model, name: str, rows: int, share: float) -> float:
    array = weight(model, name)
    return kept_share(Target(array, rows, share, "l2"), np.arange(len(array)))[0]


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_more_is_kept_and_results_stay(cnn: ir.Model, image: dict[str, Any], rows: int) -> None:
    before = run_onnx(cnn, image)[0]
    kept_before = [kept(cnn, name, rows, 0.5) for name in ("w2", "w3", "w4")]
    report = rearrange(cnn, pattern=f"{rows}x1", sparsity=0.5)
    assert [entry.node for entry in report.changed] == ["pointwise1", "pointwise2", "square"]
    assert all(kept(cnn, n, rows, 0.5) > b for n, b in zip(("w2", "w3", "w4"), kept_before, strict=True))
    np.testing.assert_allclose(run_onnx(cnn, image)[0], before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", ["element", "1x4", "4x4", "2:4", "1x1"])
def test_only_groups_of_outputs_are_taken(pattern: str) -> None:
    with pytest.raises(OptionError, match="Rx1 with R from 2"):
        RearrangeChannels(pattern=pattern)


def test_nothing_but_weights_changes(cnn: ir.Model) -> None:
    nodes = [(node.name, [value.name for value in node.inputs if value is not None]) for node in cnn.graph]
    shapes = {name: value.shape for name, value in cnn.graph.initializers.items()}
    io = [(value.name, value.shape) for value in (*cnn.graph.inputs, *cnn.graph.outputs)]
    rearrange(cnn)
    assert [(n.name, [v.name for v in n.inputs if v is not None]) for n in cnn.graph] == nodes
    assert {name: value.shape for name, value in cnn.graph.initializers.items()} == shapes
    assert [(value.name, value.shape) for value in (*cnn.graph.inputs, *cnn.graph.outputs)] == io


def test_every_layer_is_changed_or_refused_with_a_reason(cnn: ir.Model) -> None:
    report = rearrange(cnn, nodes={"pointwise2": {"skip": True}}, keep_last=False, min_elements=0)
    assert report.matched == 6 == len(report.changed) + len(report.refused)
    assert {refusal.node: refusal.reason for refusal in report.refused} == {
        "stem": "a first layer, which stays dense",
        "depthwise": "a convolution in 32 groups has few weights for each output",
        "pointwise2": "the recipe skips it",
        "classifier": "y is an output of the model",
    }
    assert "4x1 groups at 50% zeros keep" in report.changed[0].detail


def test_layers_that_are_not_pruned_have_no_say(cnn: ir.Model) -> None:
    first = [weight(cnn, name) for name in ("w2", "w3", "w4")]
    report = rearrange(cnn, kernels="pointwise", layers=("Conv",))
    assert [entry.node for entry in report.changed] == ["pointwise1", "pointwise2"]
    square = weight(cnn, "w4")
    np.testing.assert_array_equal(np.sort(square, axis=None), np.sort(first[2], axis=None))
    assert any("3x3 kernel" in refusal.reason for refusal in report.refused)


def test_a_second_run_finds_little_more(cnn: ir.Model) -> None:
    rearrange(cnn)
    once = sum(kept(cnn, name, 4, 0.5) for name in ("w2", "w3", "w4"))
    rearrange(cnn)
    assert once <= sum(kept(cnn, name, 4, 0.5) for name in ("w2", "w3", "w4")) <= 1.01 * once


def test_a_global_scope_shares_the_zeros_out_as_pruning_does(cnn: ir.Model) -> None:
    shares = rearrange(cnn.clone(), scope="global").changed
    assert len({entry.detail.split(" keep")[0] for entry in shares}) > 1
    options: dict[str, Any] = {"scope": "global", "sparsity": 0.5, "kernels": "all", "layers": ("Conv",)}
    plain, arranged = cnn.clone(), cnn.clone()
    Prune(**options)(plain)
    rearrange(arranged, **options)
    Prune(**options)(arranged)
    totals = [sum(float((weight(m, n) ** 2).sum()) for n in ("w2", "w3", "w4")) for m in (plain, arranged)]
    assert totals[1] > totals[0]


def test_tied_channels_keep_what_is_best_for_all(build: Any) -> None:
    """Two convolutions whose results are added have one order."""
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[1, 8, 4, 4] x) => (float[1, 4, 4, 4] y) {
      a = Conv(x, w0)
      [one] b = Conv(a, w1)
      [two] c = Conv(a, w2)
      d = Add(b, c)
      y = Conv(d, w3)
    }"""
    random = np.random.default_rng(0)
    shapes = {"w0": (32, 8, 1, 1), "w1": (64, 32, 1, 1), "w2": (64, 32, 1, 1), "w3": (4, 64, 1, 1)}
    model = build(text, {k: random.standard_normal(s).astype(np.float32) for k, s in shapes.items()})
    feeds = {"x": random.standard_normal((1, 8, 4, 4)).astype(np.float32)}
    expected = run_onnx(model, feeds)[0]
    before = kept(model, "w1", 4, 0.5) + kept(model, "w2", 4, 0.5)
    report = rearrange(model)
    assert {entry.node for entry in report.changed} == {"one", "two"}
    assert [note.split(" keep ")[0] for note in report.notes] == ["64 channels given by one, two"]
    assert kept(model, "w1", 4, 0.5) + kept(model, "w2", 4, 0.5) > before
    np.testing.assert_allclose(run_onnx(model, feeds)[0], expected, rtol=1e-4, atol=1e-4)


SHARED = Path(__file__).resolve().parents[4] / "shared"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared here")
def test_a_keyword_spotter_loses_less_when_rearranged() -> None:
    """More magnitude is kept at 30 and 50 %, and at 50 %, refitted, its answers stay closer."""
    model = load_model(SHARED / "models" / "mlperf_kws_dscnn.onnx")
    run_passes(model, load_recipe("default"))
    inputs = (np.load(SHARED / "data" / "kws01_features.npz")["x"].astype(np.float32) - 83) * np.float32(
        0.5847
    )
    feeds = [{str(model.graph.inputs[0].name): each.reshape(1, 1, 49, 10)} for each in inputs[:500]]
    context, magnitudes, distances = Context(Calibration(feeds[:200])), {}, []
    for share in (0.3, 0.5):
        options: dict[str, Any] = {"sparsity": share, "kernels": "all"}
        for arranged in (False, True):
            pruned = model.clone()
            if arranged:
                rearrange(pruned, **options)
            fitted = pruned.clone()
            Prune(**options)(pruned)
            magnitudes[share, arranged] = sum(np.abs(weight(pruned, n)).sum() for n in convolutions(pruned))
            if share == 0.5:
                Prune(**options).within(context)(fitted)
                distances.append(divergence(answers(model, feeds[200:]), answers(fitted, feeds[200:])))
        assert magnitudes[share, True] > 1.01 * magnitudes[share, False]
    assert distances[1] < 0.9 * distances[0]


def convolutions(model: ir.Model) -> list[str]:
    return [str(node.inputs[1].name) for node in model.graph if node.op_type == "Conv" and node.inputs[1]]


def answers(model: ir.Model, feeds: list[dict[str, Any]]) -> Any:
    with open_onnx(model) as session:
        return np.concatenate([run_opened(session, each)[0] for each in feeds]).astype(np.float64)


def divergence(expected: Any, got: Any) -> float:
    """Kullback and Leibler's, in nats, of rows of probabilities."""
    expected, got = np.maximum(expected, 1e-7), np.maximum(got, 1e-7)
    return float((expected * np.log(expected / got)).sum(axis=1).mean())
