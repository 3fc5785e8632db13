"""Clustered models run in onnxruntime, and have the bytes and the errors that the report says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.formats import DOMAIN
from gossamer.passes.activations import Calibration
from gossamer.passes.catalog import make_pass
from gossamer.passes.clean import prepare
from gossamer.passes.compress.cluster_weights import ClusterWeights
from gossamer.passes.compress.prune import Prune
from gossamer.passes.context import Context
from gossamer.passes.loading import load_model
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.runtime.errors import OptionError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def cluster(model: ir.Model, feeds: Any = None, **options: Any) -> PassReport:
    context = Context(Calibration(feeds) if feeds else None)
    report: PassReport = make_pass("cluster-weights", options).within(context)(model).report  # type: ignore[attr-defined]
    return report


def calls(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph if node.domain == DOMAIN]


def stored_bytes(model: ir.Model, name: str) -> int:
    return sum(
        value.const_value.nbytes
        for key, value in model.graph.initializers.items()
        if key.startswith(f"{name}.") and value.const_value is not None
    )


def images(count: int, seed: int = 5) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, 3, 12, 12), dtype=np.float32)} for _ in range(count)]


@pytest.mark.parametrize(
    ("bits", "options"),
    [
        (8, {}),
        (1, {}),
        (3, {"granularity": "group", "group_size": 8, "channel_scale": True}),
        (4, {"granularity": "block", "group_size": 16, "block_size": 9, "lut": "int8"}),
        (5, {"vector": 2, "codebooks": 2}),
    ],
)
def test_a_clustered_model_runs_and_has_the_bytes_of_the_report(
    cnn: ir.Model, image: dict[str, Any], bits: int, options: dict[str, Any]
) -> None:
    model = prepare(cnn)
    dense = run_onnx(model, image)[0]
    report = cluster(model, bits=bits, min_elements=0, **options)
    onnx.checker.check_model(ir.to_proto(model))
    clustered = run_onnx(model, image)[0]
    assert len(report.changed) + len(report.refused) == report.matched == 6
    assert len(report.changed) == len(calls(model)) >= 3
    assert report.bytes_after < report.bytes_before
    for entry in report.changed:
        assert entry.bytes_after < entry.bytes_before
    if bits == 8:
        assert np.abs(clustered - dense).max() < 0.05 * np.ptp(dense)


def test_the_report_counts_the_bytes_of_the_file(build: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 96), dtype=np.float32)
    model = build(
        f"{HEAD} g (float[5, 96] x) => (float[5, 64] y) {{ y = Gemm <transB = 1> (x, w) }}", {"w": weight}
    )
    change = cluster(model, bits=3).changed[0]
    assert change.bytes_after == stored_bytes(model, "w") == 64 * 96 * 3 // 8 + 2 * 8 + 2 + 2 + 8 * 5
    assert f"{8 * change.bytes_after / weight.size:.2f} bits per weight" in change.detail


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = MatMul (x, w)", (64, 48)),
        ("y = Gemm <transB = 1> (x, w)", (48, 64)),
        ("y = Gemm <alpha = 0.5> (x, w)", (64, 48)),
    ],
)
def test_matrices_of_both_orientations(build: Any, body: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    table = rng.standard_normal(16).astype(np.float16).astype(np.float32)
    model = build(
        f"{HEAD} g (float[5, 64] x) => (float[5, 48] y) {{ {body} }}", {"w": rng.choice(table, shape)}
    )
    feeds = {"x": rng.standard_normal((5, 64), dtype=np.float32)}
    dense = run_onnx(model, feeds)[0]
    cluster(model, [feeds], bits=4)
    assert calls(model) == ["PaletteDecode"]
    np.testing.assert_allclose(run_onnx(model, feeds)[0], dense, rtol=1e-6, atol=1e-6)


def test_calibration_data_makes_outputs_better(cnn: ir.Model) -> None:
    feeds = images(16)
    dense = [run_onnx(prepare(cnn), feed)[0] for feed in images(8, seed=9)]
    errors = {}
    for label, data in (("with", feeds), ("without", None)):
        model = prepare(cnn)
        cluster(model, data, bits=2, min_elements=0, channel_scale=True)
        outputs = [run_onnx(model, feed)[0] for feed in images(8, seed=9)]
        errors[label] = sum(float(((a - b) ** 2).sum()) for a, b in zip(outputs, dense, strict=True))
    assert errors["with"] < 0.7 * errors["without"]


def test_the_same_seed_gives_the_same_file_and_another_does_not(cnn: ir.Model) -> None:
    files = []
    for seed in (1, 1, 2):
        model = prepare(cnn)
        cluster(model, bits=4, vector=4, seed=seed, min_elements=0)
        files.append(ir.to_proto(model).SerializeToString())
    assert files[0] == files[1] != files[2]


def test_a_pruned_weight_stores_the_palette_of_its_blocks(cnn: ir.Model, image: dict[str, Any]) -> None:
    model = prepare(cnn)
    Prune(sparsity=0.7, kernels="all", min_elements=0)(model)
    zeros = {v.name: v.const_value.numpy() == 0 for v in model.graph.initializers.values() if v.const_value}
    report = cluster(model, images(8), bits=4, min_elements=0, channel_scale=True)
    onnx.checker.check_model(ir.to_proto(model))
    assert calls(model).count("BlockSparseDecode") == 3
    assert calls(model).count("PaletteDecode") == 6
    sparse = [c for c in report.changed if "blocks" in c.detail]
    assert [c.node for c in sparse] == ["pointwise1", "pointwise2", "square"]
    for node in model.graph:
        if node.op_type == "BlockSparseDecode":
            name = str(node.outputs[0].name)
            model.graph.outputs.append(node.outputs[0])
            decoded = run_onnx(model, image)[-1]
            assert (decoded[zeros[name]] == 0).all()
            assert np.count_nonzero(decoded) >= 0.9 * np.count_nonzero(~zeros[name])
    for change in sparse:
        assert change.bytes_after < 0.55 * change.bytes_before / 8


def test_zeros_inside_blocks_stay_zero(build: Any) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((62, 40), dtype=np.float32)
    weight[rng.random(weight.shape) < 0.6] = 0
    model = build(
        f"{HEAD} g (float[5, 40] x) => (float[5, 62] y) {{ y = Gemm <transB = 1> (x, w) }}", {"w": weight}
    )
    cluster(model, bits=4)
    decoded = run_onnx(model, {"x": np.eye(40, dtype=np.float32)[:5]})[0]
    assert calls(model) == ["PaletteDecode", "BlockSparseDecode"]
    assert (decoded.T[weight[:, :5] == 0] == 0).all()


def test_shared_weights_are_stored_once(build: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64, 1, 1), dtype=np.float32)
    text = f"{HEAD} g (float[1, 64, 2, 2] x) => (float[1, 64, 2, 2] y) {{ a = Conv (x, w)  y = Conv (a, w) }}"
    model = build(text, {"w": weight})
    report = cluster(model)
    assert len(report.changed) == 2
    assert calls(model) == ["PaletteDecode"]


LOOKUP = f"{HEAD} g (int64[7] t) => (float[7, 40] y) {{ a = Gather (e, t)  y = MatMul (a, w) }}"


def lookup_model(build: Any, text: str = LOOKUP) -> ir.Model:
    rng = np.random.default_rng(0)
    weights = {
        "e": rng.standard_normal((100, 40), np.float32),
        "w": rng.standard_normal((40, 40), np.float32),
    }
    model: ir.Model = build(text, weights)
    return model


@pytest.mark.parametrize("data", [False, True])
def test_tables_that_are_looked_up_are_clustered_where_asked_for(build: Any, data: bool) -> None:
    feeds = {"t": np.arange(0, 98, 14)}
    model = lookup_model(build)
    dense = run_onnx(model, feeds)[0]
    report = cluster(model, [feeds] if data else None, bits=8, layers=["Gather", "MatMul"])
    assert [change.operator for change in report.changed] == ["MatMul", "Gather"]
    assert calls(model).count("PaletteDecode") == 2
    assert stored_bytes(model, "e") == 100 * 40 + 2 * 256 + 4 + 8 * 5
    assert np.abs(run_onnx(model, feeds)[0] - dense).max() < 0.02 * np.ptp(dense)
    assert cluster(lookup_model(build)).matched == 1


def test_a_table_that_is_a_weight_too_stays(build: Any) -> None:
    text = f"{HEAD} g (int64[7] t) => (float[7, 40] y) {{ a = Gather (w, t)  y = MatMul (a, w) }}"
    report = cluster(lookup_model(build, text.replace("(e", "(w")), layers=["Gather", "MatMul"])
    reasons = [refusal.reason for refusal in report.refused]
    assert len(reasons) == 2
    assert "is read by MatMul" in reasons[1]


def test_names_of_tables_are_known_where_tables_are_clustered(build: Any) -> None:
    named = LOOKUP.replace("a = Gather", "[embed] a = Gather")
    options = {"nodes": {"embed": {"bits": 8}}}
    make_pass("cluster-weights", options | {"layers": ["Gather"]}).check(lookup_model(build, named))
    with pytest.raises(OptionError, match="no layer with weights has this name"):
        make_pass("cluster-weights", options).check(lookup_model(build, named))


def test_first_last_and_depthwise_layers_may_have_bits_of_their_own(cnn: ir.Model) -> None:
    model = prepare(cnn)
    report = cluster(model, bits=3, first_bits=5, last_bits=6, depthwise_bits=4, min_elements=0)
    widths = {change.node: change.detail[0] for change in report.changed}
    assert widths["stem"] == "5"
    assert widths["depthwise"] == "4"
    assert widths["classifier"] == "6"
    assert {widths[name] for name in ("pointwise1", "pointwise2", "square")} == {"3"}


def test_bits_of_a_named_layer_are_nearer_than_those_of_its_place(cnn: ir.Model) -> None:
    options: dict[str, Any] = {"nodes": {"st*": {"bits": 7}}, "operators": {"Gemm": {"bits": 2}}}
    report = cluster(prepare(cnn), bits=3, first_bits=5, last_bits=6, min_elements=0, **options)
    widths = {change.node: change.detail[0] for change in report.changed}
    assert (widths["stem"], widths["classifier"], widths["square"]) == ("7", "2", "3")


def test_what_would_not_be_smaller_stays_and_says_why(cnn: ir.Model) -> None:
    model = prepare(cnn)
    report = cluster(model, bits=8, layers=["Gemm"], lut="float32", min_elements=0)
    reasons = {refusal.node: refusal.reason for refusal in report.refused}
    assert reasons["classifier"] == "it would take 1308 bytes, dense takes 960"
    assert calls(model) == []
    report = cluster(prepare(cnn), layers=["Gemm"], min_elements=100_000)
    reasons = {refusal.node: refusal.reason for refusal in report.refused}
    assert reasons["stem"] == "the recipe clusters Gemm only"
    assert "too few" in reasons["classifier"]


def test_weights_that_are_not_finite_stay(build: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64), dtype=np.float32)
    weight[3, 4] = np.nan
    model = build(f"{HEAD} g (float[5, 64] x) => (float[5, 64] y) {{ y = MatMul (x, w) }}", {"w": weight})
    assert cluster(model).refused[0].reason == "some of its weights are not finite"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bits": 9}, "less than or equal to 8"),
        ({"bits": 0}, "greater than or equal to 1"),
        ({"vector": 3}, "1, 2, 4 or 8"),
        ({"vector": 4, "granularity": "group", "group_size": 6}, "multiple of 4"),
        ({"granularity": "group", "group_size": 0}, "greater than or equal to 1"),
        ({"group_size": 8}, "granularity group or block"),
        ({"granularity": "group", "block_size": 8}, "granularity block"),
        ({"lut": "int4"}, "'float16', 'float32' or 'int8'"),
        ({"palette": 4}, "unknown option"),
        ({"operators": {"Conv": {"bits": 9}}}, "less than or equal to 8"),
        ({"operators": {"Gather": {"bits": 4}}}, "not an operator with weights"),
        ({"nodes": {"*": {"layers": ["Conv"]}}}, "unknown option"),
    ],
)
def test_bad_options_are_refused_with_what_is_valid(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        make_pass("cluster-weights", options)
    assert text in str(caught.value)


def test_a_name_that_no_layer_has_is_refused_before_work_starts(cnn: ir.Model) -> None:
    with pytest.raises(OptionError, match="no layer with weights has this name"):
        make_pass("cluster-weights", {"nodes": {"pointwise9": {"bits": 8}}}).check(prepare(cnn))


@pytest.mark.parametrize("name", ["palette-4bit", "palette-3bit"])
def test_presets_shrink_a_model(cnn: ir.Model, image: dict[str, Any], name: str) -> None:
    model = prepare(cnn)
    (step,) = (p for p in load_recipe(name).build() if isinstance(p, ClusterWeights))
    step(model)
    again = prepare(load_model(ir.to_proto(model).SerializeToString()))
    assert calls(again) == calls(model)
    assert run_onnx(again, image)[0].tobytes() == run_onnx(model, image)[0].tobytes()
