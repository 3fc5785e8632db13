"""Weights become two factors whose outputs are as near as their bytes allow, and that never cost more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.passes.activations import Calibration
from gossamer.passes.base import weight_bytes
from gossamer.passes.catalog import make_pass
from gossamer.passes.context import Context
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.runtime.errors import OptionError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
OPEN = {"keep_first": False, "keep_last": False, "min_elements": 1, "no_slower_on": None}
Feeds = Sequence[Mapping[str, Any]]


def split(model: ir.Model, data: Feeds | None = None, **options: Any) -> PassReport:
    step = make_pass("split-low-rank", OPEN | options).within(Context(Calibration(data) if data else None))
    step.check(model)
    report: PassReport = step(model).report  # type: ignore[attr-defined]
    return report


def operators(model: ir.Model) -> list[str]:
    return [f"{node.op_type} {node.name}" for node in model.graph]


def low_rank(rng: np.random.Generator, rows: int, columns: int, rank: int) -> Any:
    product = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
    return product.astype(np.float32)


def product_model(build: Any, weight: Any, rows: int = 5) -> ir.Model:
    model: ir.Model = build(
        f"{HEAD} g (float[{rows}, {weight.shape[0]}] x) => (float[{rows}, {weight.shape[1]}] y) "
        "{ [fc] y = MatMul (x, w) }",
        {"w": weight},
    )
    return model


def test_a_product_becomes_two_and_its_error_is_the_tail_of_singular_values(build: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    model = product_model(build, weight, rows=40)
    split(model, rank=8, whiten="off")
    assert operators(model) == ["MatMul fc.down", "MatMul fc.up"]
    (outputs,) = run_onnx(model, {"x": np.eye(40, dtype=np.float32)})
    tail = np.linalg.svd(weight.astype(np.float64), compute_uv=False)[8:]
    assert np.linalg.norm(outputs - weight) == pytest.approx(np.linalg.norm(tail), rel=1e-5)


def test_factors_are_balanced(build: Any) -> None:
    model = product_model(build, np.random.default_rng(1).standard_normal((40, 30)).astype(np.float32))
    split(model, rank=8)
    down, up = (model.graph.initializers[f"fc.{name}.weight"].const_value for name in ("down", "up"))
    assert down is not None
    assert up is not None
    lengths = np.linalg.norm(down.numpy(), axis=0), np.linalg.norm(up.numpy(), axis=1)
    np.testing.assert_allclose(*lengths, rtol=1e-5)


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "<pads = [1, 2, 0, 1]>",
        "<strides = [2, 3], pads = [1, 1, 1, 1]>",
        "<dilations = [2, 1], pads = [2, 1, 2, 1]>",
        '<auto_pad = "SAME_UPPER", strides = [2, 2]>',
        "<kernel_shape = [3, 2]>",
    ],
)
@pytest.mark.parametrize("kind", ["pointwise", "separable"])
def test_a_convolution_of_low_rank_is_split_without_loss(build: Any, attributes: str, kind: str) -> None:
    rng = np.random.default_rng(2)
    if kind == "pointwise":
        weight = low_rank(rng, 16, 12 * 6, 5).reshape(16, 12, 3, 2)
    else:
        columns = low_rank(rng, 12 * 3, 16 * 2, 5).reshape(12, 3, 16, 2)
        weight = np.ascontiguousarray(columns.transpose(2, 0, 1, 3))
    text = (
        f"{HEAD} g (float[2, 12, 9, 8] x) => (float[2, 16, h, w] z) {{ [c] z = Conv {attributes} (x, w, b) }}"
    )
    model = build(text, {"w": weight, "b": rng.standard_normal(16).astype(np.float32)})
    feeds = {"x": rng.standard_normal((2, 12, 9, 8), dtype=np.float32)}
    expected = run_onnx(model, feeds)[0]
    before = weight_bytes(model)
    split(model, error=1e-5, convolutions=kind)
    assert operators(model) == ["Conv c.down", "Conv c.up"]
    factors = {"pointwise": 5 * (12 * 6 + 16), "separable": 5 * (12 * 3 + 16 * 2)}[kind]
    assert weight_bytes(model) == 4 * (factors + 16) < before
    np.testing.assert_allclose(run_onnx(model, feeds)[0], expected, atol=1e-4)


@pytest.mark.parametrize("attributes", ["", "transA = 1, ", "transB = 1, ", "alpha = 0.5, beta = 2.0, "])
def test_a_gemm_keeps_its_attributes_and_bias(build: Any, attributes: str) -> None:
    rng = np.random.default_rng(3)
    weight = low_rank(rng, 20, 20, 4)
    text = (
        f"{HEAD} g (float[20, 20] x) => (float[20, 20] y) {{ [fc] y = Gemm <{attributes[:-2]}> (x, w, b) }}"
    )
    model = build(text.replace("<>", ""), {"w": weight, "b": rng.standard_normal(20).astype(np.float32)})
    feeds = {"x": rng.standard_normal((20, 20), dtype=np.float32)}
    expected = run_onnx(model, feeds)[0]
    split(model, [feeds], rank=4)
    assert operators(model) == ["Gemm fc.down", "Gemm fc.up"]
    np.testing.assert_allclose(run_onnx(model, feeds)[0], expected, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 0.95), st.booleans())
def test_bytes_never_grow(inputs: int, outputs: int, budget: float, flat: bool) -> None:
    from ..conftest import build_model

    rng = np.random.default_rng(inputs * 41 + outputs)
    weight = rng.standard_normal((inputs, outputs)) if flat else low_rank(rng, inputs, outputs, 2)
    model = product_model(build_model, np.asarray(weight, np.float32))
    report = split(model, budget=budget)
    assert report.bytes_after <= report.bytes_before
    assert len(report.changed) + len(report.refused) == report.matched == 1


def mixed_model(build: Any, rng: np.random.Generator) -> ir.Model:
    shapes = {"w0": (96, 64), "w1": (64, 128), "w2": (128, 80), "w3": (80, 40)}
    decay = [np.exp(-np.arange(min(shape)) / (4.0 * (i + 1))) for i, shape in enumerate(shapes.values())]
    weights = {}
    for (name, (rows, columns)), spectrum in zip(shapes.items(), decay, strict=True):
        left = np.linalg.qr(rng.standard_normal((rows, len(spectrum))))[0]
        right = np.linalg.qr(rng.standard_normal((columns, len(spectrum))))[0]
        weights[name] = (left * spectrum @ right.T).astype(np.float32)
    body = "[a] a = MatMul (x, w0) [b] b = MatMul (a, w1) [c] c = MatMul (b, w2) [d] y = MatMul (c, w3)"
    model: ir.Model = build(f"{HEAD} g (float[6, 96] x) => (float[6, 40] y) {{ {body} }}", weights)
    return model


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("count", ["bytes", "multiply-adds"])
def test_a_budget_is_hit_within_one_percent(build: Any, budget: float, count: str) -> None:
    model = mixed_model(build, np.random.default_rng(4))
    report = split(model, budget=budget, count=count)
    assert budget - 0.01 <= report.bytes_after / report.bytes_before <= budget
    assert not report.notes


def test_ranks_go_where_they_are_worth_most(build: Any) -> None:
    model = mixed_model(build, np.random.default_rng(5))
    split(model, budget=0.5)
    ranks = [
        len(value.const_value.numpy().T)
        for name, value in model.graph.initializers.items()
        if name.endswith("down.weight") and value.const_value is not None
    ]
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[-1]


def test_a_threshold_between_plateaus_finds_the_rank(build: Any) -> None:
    rng = np.random.default_rng(6)
    weight = low_rank(rng, 60, 50, 7) + 0.01 * rng.standard_normal((60, 50)).astype(np.float32)
    model = product_model(build, weight)
    split(model, threshold=0.1, whiten="off")
    down = model.graph.initializers["fc.down.weight"].const_value
    assert down is not None
    assert abs(down.shape.numpy()[1] - 7) <= 1


def test_a_flat_spectrum_stays(build: Any) -> None:
    weight = np.linalg.qr(np.random.default_rng(7).standard_normal((50, 50)))[0].astype(np.float32)
    model = product_model(build, weight * (1 + np.linspace(0, 1e-3, 50, dtype=np.float32)))
    report = split(model, threshold=0.2, whiten="off")
    assert operators(model) == ["MatMul fc"]
    assert report.refused


def test_whitened_factors_lose_less_of_the_outputs(build: Any) -> None:
    rng = np.random.default_rng(8)
    weight = rng.standard_normal((40, 40)).astype(np.float32)
    scale = np.exp(-np.arange(40) / 6).astype(np.float32)
    feeds = [{"x": rng.standard_normal((64, 40), dtype=np.float32) * scale} for _ in range(4)]
    fresh = {"x": rng.standard_normal((64, 40), dtype=np.float32) * scale}
    lost = {}
    for whiten in ("off", "on"):
        model = product_model(build, weight, rows=64)
        split(model, feeds, rank=8, whiten=whiten)
        lost[whiten] = np.linalg.norm(run_onnx(model, fresh)[0] - fresh["x"] @ weight)
    assert lost["on"] < 0.5 * lost["off"]


def test_a_bias_takes_the_mean_of_what_is_lost(build: Any) -> None:
    rng = np.random.default_rng(9)
    weights = {"w": rng.standard_normal((30, 30)).astype("f"), "b": np.zeros(30, np.float32)}
    text = f"{HEAD} g (float[64, 30] x) => (float[64, 30] y) {{ [fc] y = Gemm (x, w, b) }}"
    model = build(text, weights)
    feeds = {"x": rng.standard_normal((64, 30)).astype("f") + 10 * rng.standard_normal(30).astype("f")}
    expected = run_onnx(model, feeds)[0]
    split(model, [feeds], rank=5)
    found = run_onnx(model, feeds)[0]
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), atol=1e-3)


def test_a_shared_weight_is_split_once(build: Any) -> None:
    rng = np.random.default_rng(10)
    weight = low_rank(rng, 24, 24, 3)
    body = "[a] a = MatMul (x, w) r = Relu (a) [b] y = MatMul (r, w)"
    model = build(f"{HEAD} g (float[4, 24] x) => (float[4, 24] y) {{ {body} }}", {"w": weight})
    feeds = {"x": rng.standard_normal((4, 24), dtype=np.float32)}
    expected = run_onnx(model, feeds)[0]
    report = split(model, [feeds], rank=3)
    assert weight_bytes(model) == 4 * 3 * 48
    assert len(report.changed) == 2
    np.testing.assert_allclose(run_onnx(model, feeds)[0], expected, rtol=1e-3, atol=1e-2)


def test_weights_that_others_read_or_that_are_kept_stay_with_the_reason(build: Any) -> None:
    rng = np.random.default_rng(11)
    body = "[a] a = MatMul (x, w) [e] e = Relu (w) [b] b = MatMul (a, e) [c] y = MatMul (b, v)"
    weights = {"w": low_rank(rng, 24, 24, 3), "v": low_rank(rng, 24, 24, 3)}
    model = build(f"{HEAD} g (float[4, 24] x) => (float[4, 24] y) {{ {body} }}", weights)
    report = split(model, rank=3, nodes={"c": {"skip": True}})
    reasons = {entry.node: entry.reason for entry in report.refused}
    assert "read by Relu e too" in reasons["a"]
    assert reasons["c"] == "the recipe skips it"
    assert not report.changed


def test_grouped_convolutions_and_small_weights_stay(cnn: ir.Model) -> None:
    report = split(cnn, budget=0.5, min_elements=1500)
    reasons = {entry.node: entry.reason for entry in report.refused}
    assert "32 groups" in reasons["depthwise"]
    assert "240 weights are too few" in reasons["classifier"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rank": 0}, "greater than or equal to 1"),
        ({"budget": 1.5}, "less than 1"),
        ({"rank": 3, "threshold": 0.1}, "ranks are chosen in one way"),
        ({"whiten": "on"}, "no calibration data"),
        ({"nodes": {"nothing": {"rank": 3}}}, "no layer with weights has this name"),
        ({"nodes": {"fc": {"rank": 0}}}, "greater than or equal to 1"),
    ],
)
def test_bad_options_are_refused_before_work_starts(build: Any, options: dict[str, Any], text: str) -> None:
    model = product_model(build, np.ones((4, 4), np.float32))
    with pytest.raises(OptionError, match=text):
        split(model, **options)
    assert operators(model) == ["MatMul fc"]


def test_what_is_a_product_already_stays(build: Any) -> None:
    model = product_model(build, low_rank(np.random.default_rng(12), 32, 32, 4))
    split(model, error=1e-5)
    again = split(model, error=1e-5)
    assert operators(model) == ["MatMul fc.down", "MatMul fc.up"]
    assert not again.changed


def test_refitted_factors_make_up_for_the_layers_before(build: Any) -> None:
    rng = np.random.default_rng(13)
    weights = {name: rng.standard_normal((32, 32)).astype("f") for name in ("u", "v", "w")}
    body = "[a] a = MatMul (x, u) r = Relu (a) [b] b = MatMul (r, v) s = Relu (b) [c] y = MatMul (s, w)"
    mixing = rng.standard_normal((32, 32)) * np.exp(-np.arange(32) / 5)[:, None]
    feeds = [{"x": (rng.standard_normal((64, 32)) @ mixing).astype("f")} for _ in range(8)]
    lost = []
    for refit in (False, True):
        model = build(f"{HEAD} g (float[64, 32] x) => (float[64, 32] y) {{ {body} }}", weights)
        expected = run_onnx(model, feeds[0])[0]
        split(model, feeds, budget=0.6, refit=refit)
        lost.append(np.linalg.norm(run_onnx(model, feeds[0])[0] - expected))
    assert lost[1] < 0.95 * lost[0]


def fourier(size: int) -> Any:
    """A Hadamard matrix, which is a Monarch matrix and has a flat spectrum."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.kron(matrix, np.array([[1, 1], [1, -1]]))
    return matrix.astype(np.float32)


@pytest.mark.parametrize(
    ("weight", "operator"),
    [(fourier(64), "Reshape fc.blocks"), (low_rank(np.random.default_rng(14), 64, 64, 6), "MatMul fc.down")],
)
def test_auto_chooses_the_family_that_a_weight_is_made_of(build: Any, weight: Any, operator: str) -> None:
    model = product_model(build, weight)
    report = split(model, budget=0.5, method="auto")
    assert operators(model)[0] == operator
    assert report.bytes_after <= 0.5 * report.bytes_before
    feeds = {"x": np.random.default_rng(15).standard_normal((5, 64), dtype=np.float32)}
    np.testing.assert_allclose(run_onnx(model, feeds)[0], feeds["x"] @ weight, atol=2e-4)


@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_block_products_of_any_rank_are_what_the_factors_say(build: Any, operator: str) -> None:
    rng = np.random.default_rng(16)
    inner = "w, b" if operator == "Gemm" else "w"
    text = f"{HEAD} g (float[7, 24] x) => (float[7, 40] y) {{ [fc] y = {operator} (x, {inner}) }}"
    blocks = rng.standard_normal((8, 4, 5, 2)) @ rng.standard_normal((8, 4, 2, 6))
    weight = np.ascontiguousarray(blocks.transpose(1, 3, 2, 0).reshape(24, 40), np.float32)
    constants = {"w": weight} | ({"b": rng.standard_normal(40).astype("f")} if operator == "Gemm" else {})
    model = build(text, constants)
    feeds = {"x": rng.standard_normal((7, 24), dtype=np.float32)}
    expected = run_onnx(model, feeds)[0]
    split(model, [feeds], budget=0.9, method="monarch")
    assert "MatMul fc.down" in operators(model)
    assert np.linalg.norm(run_onnx(model, feeds)[0] - expected) < 0.7 * np.linalg.norm(expected)


def test_sparse_factors_are_stored_as_such_and_run(build: Any) -> None:
    rng = np.random.default_rng(17)
    blocks = [rng.standard_normal((36, 3)) @ rng.standard_normal((3, 10)) for _ in range(6)]
    model = product_model(build, np.concatenate(blocks, axis=1).astype(np.float32))
    report = split(model, budget=0.8, method="dense-sparse")
    assert "BlockSparseDecode" in [node.op_type for node in model.graph]
    assert report.bytes_after == weight_bytes(model) <= 0.8 * report.bytes_before
    assert run_onnx(model, {"x": np.eye(36, dtype=np.float32)[:5]})[0].shape == (5, 60)


@pytest.mark.parametrize("target", ["x86-64-v4", "arm64-linux"])
def test_factors_that_would_be_slower_are_left_out(build: Any, target: str) -> None:
    rng = np.random.default_rng(18)
    weight = rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
    layer = "{ [c] y = Conv <pads = [1, 1, 1, 1]> (x, w) }"
    text = f"{HEAD} g (float[1, 64, 28, 28] x) => (float[1, 64, 28, 28] y) {layer}"
    sizes = {}
    for kind in ("separable", "pointwise"):
        for on in (None, target):
            model = build(text, {"w": weight})
            split(model, budget=0.9, convolutions=kind, no_slower_on=on)
            sizes[kind, on] = weight_bytes(model) / weight.nbytes
    assert sizes["separable", None] > 0.85
    assert sizes["separable", target] < 0.7  # the dense layer runs by Winograd's transforms
    assert sizes["pointwise", target] > sizes["separable", target]


def test_an_unknown_target_is_refused(build: Any) -> None:
    with pytest.raises(OptionError, match="x86-64-v4"):
        split(product_model(build, np.ones((4, 4), np.float32)), no_slower_on="x86-64-v9")
