"""Pruning zeroes the smallest blocks, exactly as many as asked, and only where it may."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.passes.activations import Calibration
from gossamer.passes.clean import prepare
from gossamer.passes.compress.prune import Prune
from gossamer.passes.context import Context
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.passes.sparsity_pattern import parse_pattern
from gossamer.runtime.errors import OptionError

PATTERNS = ["element", "2x1", "4x1", "8x1", "1x4", "4x4"]


def prune(model: ir.Model, **options: Any) -> PassReport:
    report: PassReport = Prune(**options)(model).report  # type: ignore[attr-defined]
    return report


def weight(model: ir.Model, name: str) -> Any:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


@given(st.sampled_from(PATTERNS), st.integers(1, 20), st.integers(1, 20), st.floats(0, 0.99))
def test_as_many_blocks_go_as_asked_and_the_smallest(
    text: str, rows: int, inner: int, sparsity: float
) -> None:
    pattern = parse_pattern(text)
    array = np.random.default_rng(rows * 31 + inner).standard_normal((rows, inner, 1, 1)).astype(np.float32)
    scores = pattern.pooled(array.astype(np.float64) ** 2)
    keep = pattern.keep(array.astype(np.float64) ** 2, sparsity)
    assert keep.shape == array.shape
    left = pattern.pooled(np.where(keep, array, np.float32(0)) ** 2) > 0
    gone = min(round(sparsity * scores.size), scores.size - 1)
    assert np.count_nonzero(~left) == gone
    assert gone == 0 or scores[~left].max() <= scores[left].min()


@given(st.sampled_from(["2:4", "1:4", "4:8"]), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_of_every_m_channels_n_stay(text: str, outputs: int, groups: int, seed: int) -> None:
    kept, of = map(int, text.split(":"))
    array = np.random.default_rng(seed).standard_normal((outputs, groups * of, 3, 3)).astype(np.float32)
    keep = parse_pattern(text).keep(np.abs(array), 0)
    per_group = keep.reshape(outputs, groups, of, 3, 3).sum(axis=2)
    assert (per_group == kept).all()
    grouped = np.abs(array).reshape(outputs, groups, of, 3, 3)
    smallest_kept = np.where(keep.reshape(grouped.shape), grouped, np.inf).min(axis=2)
    largest_lost = np.where(keep.reshape(grouped.shape), 0, grouped).max(axis=2)
    assert (largest_lost <= smallest_kept).all()


def test_equal_scores_fall_in_the_order_of_their_index() -> None:
    keep = parse_pattern("4x1").keep(np.ones((8, 4), np.float32), 0.5)
    assert not keep[:4].any()
    assert keep[4:].all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_sparsity_is_reached_in_each_pattern(cnn: ir.Model, pattern: str) -> None:
    prune(cnn, sparsity=0.75, pattern=pattern)
    zeros = np.mean(weight(cnn, "w2") == 0)
    assert abs(zeros - 0.75) < 0.01
    assert weight(cnn, "w2").dtype == np.float32
    assert np.count_nonzero(weight(cnn, "w4") == 0) == 0


def test_a_global_scope_takes_exactly_the_share_of_all_weights(cnn: ir.Model) -> None:
    prune(cnn, sparsity=0.3, pattern="element", scope="global")
    lost = [np.count_nonzero(weight(cnn, name) == 0) for name in ("w2", "w3")]
    assert sum(lost) == round(0.3 * (64 * 32 + 50 * 64))
    assert lost[0] / (64 * 32) != lost[1] / (50 * 64)


def test_a_global_scope_does_not_mind_the_scale_of_a_layer(cnn: ir.Model) -> None:
    other = cnn.clone()
    value = other.graph.initializers["w3"]
    value.const_value = ir.Tensor(weight(other, "w3") * np.float32(128), name="w3")
    for model in (cnn, other):
        prune(model, sparsity=0.3, pattern="2x1", scope="global")
    for name in ("w2", "w3"):
        np.testing.assert_array_equal(weight(cnn, name) == 0, weight(other, name) == 0)


def test_a_global_scope_prefers_the_layer_with_more_small_weights_up_to_the_cap(cnn: ir.Model) -> None:
    value = cnn.graph.initializers["w3"]
    array = weight(cnn, "w3").copy()
    array[4:] *= np.float32(1e-3)  # 46 of 50 outputs hardly matter beside the first
    value.const_value = ir.Tensor(array, name="w3")
    prune(cnn, sparsity=0.5, pattern="element", scope="global", max_sparsity=0.75)
    assert np.count_nonzero(weight(cnn, "w3") == 0) == int(0.75 * 50 * 64)
    assert np.count_nonzero(weight(cnn, "w2") == 0) == round(0.5 * (64 * 32 + 50 * 64)) - int(0.75 * 50 * 64)


def test_a_global_scope_takes_several_patterns(cnn: ir.Model) -> None:
    prune(cnn, sparsity=0.5, scope="global", nodes={"pointwise2": {"pattern": "2x1"}})
    zeros = {name: (weight(cnn, name) == 0).reshape(len(weight(cnn, name)), -1) for name in ("w2", "w3")}
    for name, rows in (("w2", 4), ("w3", 2)):
        whole = zeros[name].reshape(-1, rows, zeros[name].shape[1])
        assert (whole.all(axis=1) | ~whole.any(axis=1)).all()
    assert abs(sum(z.sum() for z in zeros.values()) - 0.5 * (64 * 32 + 50 * 64)) < 4


def test_a_global_scope_with_two_sparsities_is_refused(cnn: ir.Model) -> None:
    with pytest.raises(OptionError, match="one sparsity"):
        prune(cnn, sparsity=0.3, scope="global", nodes={"pointwise1": {"sparsity": 0.5}})


def test_a_cap_below_the_sparsity_is_refused() -> None:
    with pytest.raises(OptionError, match=r"at least the sparsity, 0\.9; got 0\.8"):
        Prune(sparsity=0.9, scope="global", max_sparsity=0.8)


def test_the_nearest_option_wins(cnn: ir.Model) -> None:
    report = prune(
        cnn,
        sparsity=0.2,
        pattern="element",
        layers=("Conv", "Gemm"),
        keep_last=False,
        min_elements=0,
        operators={"Gemm": {"sparsity": 0.5}},
        nodes={"pointwise2": {"sparsity": 0.9}, "pointwise*": {"sparsity": 0.7}},
    )
    zeros = {c.node: round(float(c.detail.split("%")[0])) for c in report.changed}
    assert zeros == {"pointwise1": 70, "pointwise2": 90, "classifier": 50}


def test_a_skipped_layer_says_so(cnn: ir.Model) -> None:
    report = prune(cnn, nodes={"pointwise1": {"skip": True}})
    assert ("pointwise1", "the recipe skips it") in [(r.node, r.reason) for r in report.refused]


def test_a_name_that_no_layer_has_is_refused(cnn: ir.Model) -> None:
    with pytest.raises(OptionError, match="did you mean pointwise1"):
        prune(cnn, nodes={"pointwize1": {"skip": True}})


@pytest.mark.parametrize(
    ("options", "node", "reason"),
    [
        ({"pattern": "2:4"}, "square", "not 1x1"),
        ({"pattern": "3:7", "kernels": "all"}, "square", "50 input channels are no multiple of 7"),
        ({"min_elements": 5000}, "pointwise1", "2048 weights are too few, the least is 5000"),
        ({"keep_first": False}, "stem", "a 3x3 kernel, not 1x1"),
        ({"layers": ("Gemm",)}, "pointwise1", "the recipe prunes Gemm only"),
        ({"layers": ("Gemm",)}, "classifier", "a last layer"),
    ],
)
def test_each_refusal_has_its_reason(cnn: ir.Model, options: dict[str, Any], node: str, reason: str) -> None:
    report = prune(cnn, **options)
    (got,) = (refusal.reason for refusal in report.refused if refusal.node == node)
    assert reason in got


def test_weights_that_something_else_reads_stay(build: Any) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[1, 40, 1, 1] x) => (float[1, 40, 1, 1] y, float[40, 40, 1, 1] z) {
      [first] a = Conv (x, w)  [second] b = Conv (a, w)  [third] c = Conv (b, v)  [last] y = Conv (c, v)
      [reader] z = Neg (v)
    }"""
    rng = np.random.default_rng(0)
    model = build(text, {n: rng.standard_normal((40, 40, 1, 1), dtype=np.float32) for n in "wv"})
    report = prune(model, keep_first=False, keep_last=False)
    assert [change.node for change in report.changed] == ["first"]
    assert [(r.node, r.reason) for r in report.refused] == [
        ("second", "it shares the weights of first, which are pruned there"),
        ("third", "its weights are read by Neg reader too"),
        ("last", "its weights are read by Neg reader too"),
    ]


def test_half_precision_stays_half_precision(build: Any) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float16[1, 40, 1, 1] x) => (float16[1, 40, 1, 1] y) { y = Conv (x, w) }"""
    model = build(text, {"w": np.random.default_rng(0).standard_normal((40, 40, 1, 1)).astype(np.float16)})
    prune(model, keep_first=False, keep_last=False, sparsity=0.5)
    assert weight(model, "w").dtype == np.float16
    assert np.mean(weight(model, "w") == 0) == 0.5


ENCODER = """
    <ir_version: 8, opset_import: ["" : 18]>
    encoder (int64[1, 4] ids, float[50, 32] table, float[32, 32] one, float[32, 32] two, float[32] scale)
        => (float[1, 4, 32] y)
    {
        x = Gather(table, ids)
        a = MatMul(x, one)
        b = Add(a, x)
        c = MatMul(b, two)
        d = Add(c, b)
        NORM
    }
"""


@pytest.mark.parametrize(
    ("norm", "kept"),
    [("y = LayerNormalization(d, scale)", set()), ("y = Relu(d)", {"two"})],
)
def test_residuals_make_no_inner_layer_a_first_or_last_one(norm: str, kept: set[str]) -> None:
    model = ir.from_onnx_text(ENCODER.replace("NORM", norm))
    generator = np.random.default_rng(0)
    while len(model.graph.inputs) > 1:
        value = model.graph.inputs.pop()
        assert value.shape is not None
        value.const_value = ir.Tensor(generator.standard_normal(value.shape.numpy()).astype(np.float32))
        model.graph.register_initializer(value)
    report = prune(model, layers=("MatMul",), kernels="all", sparsity=0.5)
    dense = {name for name in ("one", "two") if np.all(weight(model, name))}
    assert dense == kept
    assert len(report.changed) == 2 - len(kept)


PRODUCTS = """<ir_version: 10, opset_import: ["": 21]>
    g (float[3, 24] x) => (float[3, 16] y) {
      [one] a = MatMul (x, u)  [two] b = Gemm (a, v)
      [three] c = Gemm <transB = 1> (b, w)  [four] y = MatMul (c, z)
    }"""


def test_blocks_run_along_outputs_in_every_orientation(build: Any) -> None:
    rng = np.random.default_rng(0)
    shapes = {"u": (24, 16), "v": (16, 24), "w": (16, 24), "z": (16, 16)}
    model = build(PRODUCTS, {n: rng.standard_normal(s, dtype=np.float32) for n, s in shapes.items()})
    options: dict[str, Any] = {"keep_first": False, "keep_last": False, "min_elements": 0}
    prune(model, layers=("Gemm", "MatMul"), operators={"Gemm": {"pattern": "8x1"}}, **options)
    for name, rows in (("u", 4), ("v", 8), ("w", 8), ("z", 4)):
        matrix = weight(model, name) == 0
        matrix = matrix if name == "w" else matrix.T
        blocks = matrix.reshape(-1, rows, matrix.shape[1])
        assert (blocks.all(axis=1) | ~blocks.any(axis=1)).all()
        assert np.mean(matrix) == 0.5


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("4x1", "50 outputs are no multiple of 4; expected rows of 1, 2, 5, 10, 25, 50; got 4x1"),
        ("2:5", "64 input channels are no multiple of 5; expected groups of 1, 2, 4, 8, 16, 32, 64; got 2:5"),
    ],
)
def test_a_pattern_that_does_not_fit_the_layer_it_is_given_for_is_refused(
    cnn: ir.Model, pattern: str, text: str
) -> None:
    with pytest.raises(OptionError, match=f"nodes: pointwise2: pattern: {text}"):
        Prune(nodes={"pointwise2": {"pattern": pattern}}).check(cnn)
    Prune(nodes={"pointwise*": {"pattern": pattern}}).check(cnn)


def calibrated(model: ir.Model, data: list[dict[str, Any]], **options: Any) -> PassReport:
    step = Prune(kernels="all", min_elements=0, **options).within(Context(Calibration(data)))
    report: PassReport = step(model).report  # type: ignore[attr-defined]
    return report


@pytest.fixture
def images() -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    smooth = rng.standard_normal((16, 3, 12, 12)).cumsum(axis=2).cumsum(axis=3) / 6
    return [{"x": image[None].astype(np.float32)} for image in smooth]


def off(model: ir.Model, other: ir.Model, data: list[dict[str, Any]]) -> float:
    return float(np.mean([np.square(run_onnx(model, d)[0] - run_onnx(other, d)[0]).mean() for d in data]))


@pytest.mark.parametrize(
    "options", [{"rounds": 1}, {"score": "activation", "rounds": 2}, {"score": "second-order", "rounds": 2}]
)
def test_refitted_weights_give_results_nearer_to_the_source(
    cnn: ir.Model, images: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    source = prepare(cnn)
    plain, fitted = source.clone(), source.clone()
    calibrated(plain, images[:12], sparsity=0.5, refit=False, **options)
    report = calibrated(fitted, images[:12], sparsity=0.5, **options)
    assert not report.notes
    assert all("before refitting" in change.detail for change in report.changed)
    for name in ("w2", "w3", "w4"):
        assert abs(np.mean(weight(fitted, name) == 0) - 0.5) < 0.02
    assert off(source, fitted, images[12:]) < 0.5 * off(source, plain, images[12:])


def test_a_refit_gives_layers_a_bias_and_is_the_same_every_time(
    cnn: ir.Model, images: list[dict[str, Any]]
) -> None:
    models = [cnn.clone(), cnn.clone()]
    for model in models:
        calibrated(model, images, sparsity=0.5, score="activation", scope="global", rounds=2)
        onnx.checker.check_model(ir.to_proto(model))
    assert "pointwise2.bias" in models[0].graph.initializers  # it had none
    assert "b2" not in models[0].graph.initializers  # nobody reads it any more
    one, other = (m.graph.initializers for m in models)
    assert list(one) == list(other)
    for name in one:
        assert weight(models[0], name).tobytes() == weight(models[1], name).tobytes()


def test_without_data_the_weights_alone_decide_and_the_report_says_so(cnn: ir.Model) -> None:
    other = cnn.clone()
    assert not prune(cnn, sparsity=0.5, score="relative", refit=False).notes
    (note,) = prune(other, sparsity=0.5, score="second-order").notes
    assert "without calibration data" in note
    np.testing.assert_array_equal(weight(cnn, "w2"), weight(other, "w2"))


def test_a_layer_whose_inputs_overflow_is_pruned_by_its_weights_alone(build: Any) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[20, 8] x) => (float[20, 8] z) { [infinite] y = Log (x) [one] z = MatMul (y, w) }"""
    model = build(text, {"w": np.random.default_rng(0).standard_normal((8, 8), dtype=np.float32)})
    data = [{"x": np.zeros((20, 8), np.float32)}]
    (done,) = calibrated(model, data, layers=("MatMul",), keep_first=False, keep_last=False).changed
    assert done.detail.endswith("what it reads on calibration data is not finite")
    assert np.mean(weight(model, "w") == 0) == 0.5


def test_layers_that_share_a_bias_are_shifted_each_for_itself(build: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = {"v": rng.standard_normal((8, 8, 1, 1), dtype=np.float32)}
    arrays |= {"w": arrays["v"] + 1, "b": rng.standard_normal(8).astype("f")}
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[20, 8, 1, 1] x) => (float[20, 8, 1, 1] z) {
      [one] y = Conv (x, v, b) [two] z = Conv (y, w, b) }"""
    model = build(text, arrays)
    data = [{"x": rng.standard_normal((20, 8, 1, 1), dtype=np.float32) + np.float32(2)}]
    calibrated(model, data, sparsity=0.5, keep_first=False, keep_last=False)
    assert {"one.bias", "two.bias"} <= set(model.graph.initializers)
    means = [run_onnx(m, data[0])[0].mean(axis=0).ravel() for m in (build(text, arrays), model)]
    np.testing.assert_allclose(means[1], means[0], atol=1e-4)
