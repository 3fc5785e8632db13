"""quantize-weights: onnxruntime decodes the weights that were chosen; layers are refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.formats.group_float4 import parse_group_float4
from gossamer.passes.activations import Calibration
from gossamer.passes.clean import prepare
from gossamer.passes.compress.quantize_weights import QuantizeWeights
from gossamer.passes.context import Context
from gossamer.passes.recipe import Recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.passes.running import convert_model
from gossamer.passes.shapes import infer_shapes

HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def quantize(model: ir.Model, context: Context | None = None, **options: Any) -> PassReport:
    step = QuantizeWeights(**options).within(context or Context())
    report: PassReport = step(model).report  # type: ignore[attr-defined]
    return report


def one_layer(build: Any, weight: Any) -> ir.Model:
    """MatMul by `weight` [K, N]."""
    text = (
        f"{HEAD} g (float[n, {len(weight)}] x) => (float[n, {weight.shape[1]}] y) {{ [m] y = MatMul (x, w) }}"
    )
    model: ir.Model = build(text, {"w": weight})
    return model


def infer_shapes_of(model: ir.Model) -> ir.Model:
    infer_shapes(model)
    return model


def decoded(model: ir.Model, inputs: int) -> Any:
    """What the layer of `one_layer` multiplies by."""
    return run_onnx(model, {"x": np.eye(inputs, dtype=np.float32)})[0]


def stored_bytes(model: ir.Model) -> int:
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


@pytest.mark.parametrize(
    ("options", "worst"),
    [
        ({"dtype": "int8", "group": 0}, 0.02),
        ({"dtype": "int8", "group": 0, "symmetric": True}, 0.02),
        ({"dtype": "int8", "group": 16}, 0.02),
        ({"dtype": "int4", "group": 0}, 0.3),
        ({"dtype": "int4", "group": 16, "symmetric": True}, 0.3),
        ({"dtype": "int4", "group": 32, "fit": False, "compensate": False}, 0.3),
        ({"dtype": "float8-e4m3", "group": 32}, 0.1),
        ({"dtype": "float8-e5m2", "group": 0}, 0.2),
        ({"dtype": "float8-e4m3", "group": 0, "powers": "each"}, 0.1),
        ({"dtype": "float4-e2m1", "group": 32}, 0.4),
        ({"dtype": "float4-e2m1", "group": 16, "powers": "each"}, 0.5),
        ({"dtype": "float4-e2m1", "group": 16, "powers": "apart"}, 0.4),
        ({"dtype": "int3", "group": 16}, 0.6),
        ({"dtype": "int3", "group": 16, "symmetric": True}, 0.6),
        ({"dtype": "int2", "group": 16}, 1.0),
        ({"dtype": "int4-in-int8", "group": 32}, 0.3),
    ],
)
def test_every_layer_runs_in_onnxruntime_near_the_dense_one(
    cnn: ir.Model, image: dict[str, Any], options: dict[str, Any], worst: float
) -> None:
    model = prepare(cnn)
    dense = run_onnx(model, image)
    report = quantize(model, min_elements=0, **options)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert len(report.changed) == 6
    for old, new in zip(dense, run_onnx(model, image), strict=True):
        assert 0 < np.abs(new - old).max() < worst * np.ptp(old)


@pytest.mark.parametrize("inputs", [16, 40, 96])
def test_groups_need_not_divide_the_inputs(build: Any, inputs: int) -> None:
    weight = np.random.default_rng(0).standard_normal((inputs, 24)).astype(np.float32)
    model = one_layer(build, weight)
    quantize(model, group=32, min_elements=0)
    scale = model.graph.initializers["w.scale"].const_value
    assert scale is not None
    assert tuple(scale.shape.numpy()) == ((-(-inputs // 32),) if inputs > 32 else ()) + (24,)
    assert np.abs(decoded(model, inputs) - weight).max() < 0.3


def test_reported_bytes_are_those_stored(build: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((96, 128)).astype(np.float32)
    model = one_layer(build, weight)
    report = quantize(model)
    assert report.changed[0].bytes_after == stored_bytes(model) == weight.size * (4 + 20 / 32) / 8
    assert "4.62 bits per weight" in report.changed[0].detail


def test_calibration_data_makes_outputs_better(build: Any) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((64, 48)).astype(np.float32)
    x = (rng.standard_normal((300, 8)) @ rng.standard_normal((8, 64))).astype(np.float32)
    errors = []
    for context in (Context(), Context(Calibration([{"x": x[:200]}]))):
        model = one_layer(build, weight)
        quantize(model, context)
        errors.append(np.linalg.norm(run_onnx(model, {"x": x[200:]})[0] - x[200:] @ weight))
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    ("dtype", "bits"), [("int3", 3 + 19 / 32), ("int2", 2 + 18 / 32), ("float4-e2m1", 4 + 4 / 32 + 16 / 96)]
)
def test_formats_store_exactly_their_bits(build: Any, dtype: str, bits: float) -> None:
    weight = np.random.default_rng(0).standard_normal((96, 128)).astype(np.float32)
    model = one_layer(build, weight)
    report = quantize(model, dtype=dtype, powers="apart" if dtype == "float4-e2m1" else "free")
    sizes = 8 * (2 + 2) if dtype != "float4-e2m1" else 8 * (2 + 1)  # shape and form
    assert report.changed[0].bytes_after == stored_bytes(model)
    assert abs(8 * (stored_bytes(model) - sizes) / weight.size - bits) < 0.05


def float4_parts(model: ir.Model) -> Any:
    call = next(node for node in model.graph if node.op_type == "GroupFloat4Decode")
    names = ("quantized", "scale", "shift", "shape", "form")
    parts = {}
    for name, value in zip(names, call.inputs, strict=True):
        assert value is not None
        assert value.const_value is not None
        parts[name] = value.const_value.numpy()
    return parse_group_float4(parts)


def test_constrained_scales_are_powers_of_two_or_such_apart(build: Any) -> None:
    weight = np.random.default_rng(3).standard_normal((128, 16)).astype(np.float32)
    weight *= np.repeat([0.01, 1, 0, 30], 32).astype(np.float32)[:, None]
    errors = {}
    for powers in ("free", "each", "apart"):
        model = one_layer(build, weight)
        quantize(model, dtype="float4-e2m1", group=32, powers=powers, min_elements=0, compensate=False)
        errors[powers] = np.square(decoded(model, 128) - weight).sum()
        scales = float4_parts(model).scales
        if powers == "each":
            assert (np.log2(scales) == np.rint(np.log2(scales))).all()
        if powers == "apart":
            ratios = np.log2(scales.max(axis=1, keepdims=True) / scales)
            assert (ratios == np.rint(ratios)).all()
    assert errors["free"] <= errors["apart"] < errors["each"]
    assert errors["apart"] < 1.3 * errors["free"]


def test_dual_grain_decodes_to_int8_with_a_scale_for_each_output(build: Any) -> None:
    weight = np.random.default_rng(4).standard_normal((96, 24)).astype(np.float32)
    free, dual = one_layer(build, weight), one_layer(build, weight)
    quantize(free, group=16, compensate=False)
    quantize(dual, dtype="int4-in-int8", group=16, compensate=False)
    node = next(node for node in dual.graph if node.op_type == "DequantizeLinear")
    assert node.inputs[0] is not None
    assert node.inputs[0].dtype == ir.DataType.INT8
    gaps = [np.linalg.norm(decoded(model, 96) - weight) for model in (free, dual)]
    assert gaps[1] < 1.1 * gaps[0]


def test_later_layers_make_up_for_what_earlier_ones_lost(build: Any) -> None:
    rng = np.random.default_rng(5)
    first, second = (rng.standard_normal((32, 32)).astype(np.float32) / 6 for _ in range(2))
    body = "a = MatMul (x, v) b = Relu (a) y = MatMul (b, w)"
    text = f"{HEAD} g (float[n, 32] x) => (float[n, 32] y) {{ {body} }}"
    x = (rng.standard_normal((600, 6)) @ rng.standard_normal((6, 32))).astype(np.float32)
    wanted = run_onnx(build(text, {"v": first, "w": second}), {"x": x[400:]})[0]
    errors = []
    for sequential in (False, True):
        model = build(text, {"v": first, "w": second})
        context = Context(Calibration([{"x": x[:400]}]))
        quantize(model, context, dtype="int2", group=16, sequential=sequential, min_elements=0)
        errors.append(np.linalg.norm(run_onnx(model, {"x": x[400:]})[0] - wanted))
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("dtype", ["int4", "int2", "float4-e2m1", "int4-in-int8"])
def test_a_product_of_low_rank_gives_back_what_was_lost(build: Any, dtype: str) -> None:
    rng = np.random.default_rng(6)
    weight = rng.standard_normal((128, 96)).astype(np.float32)
    weight[:, 5] *= 40  # what a group cannot hold beside the others
    passes = (("quantize-weights", {"dtype": dtype, "group": 32}), ("correct-low-rank", {"rank": 4}))
    gaps = []
    for recipe in (Recipe("plain", passes[:1]), Recipe("corrected", passes)):
        model, _ = convert_model(one_layer(build, weight.T.copy()), recipe)
        gaps.append(np.linalg.norm(decoded(model, 96) - weight.T))
    assert gaps[1] < 0.97 * gaps[0]


def test_kinds_of_layers_may_have_another_type(cnn: ir.Model) -> None:
    model = prepare(cnn)
    options: dict[str, Any] = {"first": "int8", "last": "float8-e4m3", "depthwise": "int8", "min_elements": 0}
    report = quantize(model, dtype="int3", nodes={"square": {"dtype": "int2"}}, **options)
    details = {change.node: change.detail.split(",")[0] for change in report.changed}
    assert details["stem"] == details["depthwise"] == "int8 with a scale for each output"
    assert details["classifier"].startswith("float8-e4m3 with a scale for")
    assert details["pointwise1"].startswith("int3 ")
    assert details["square"].startswith("int2 ")


def test_the_layers_that_change_the_outputs_most_get_more_bits(build: Any) -> None:
    rng = np.random.default_rng(7)
    weights = {name: rng.standard_normal((32, 32)).astype(np.float32) / 6 for name in "uvw"}
    weights["v"] *= 20  # of one branch of two
    body = "[first] a = MatMul (x, u) [large] b = MatMul (a, v) [small] c = MatMul (a, w) y = Add (b, c)"
    text = f"{HEAD} g (float[n, 32] x) => (float[n, 32] y) {{ {body} }}"
    model = build(text, weights)
    context = Context(Calibration([{"x": rng.standard_normal((64, 32)).astype(np.float32)}]))
    report = quantize(model, context, sensitive=0.67, min_elements=0)
    types = {change.node: change.detail.split()[0] for change in report.changed}
    assert types == {"first": "int8", "large": "int8", "small": "int4"}


def test_scales_that_suit_activations_move_into_a_layer_norm(build: Any) -> None:
    rng = np.random.default_rng(8)
    weight = rng.standard_normal((64, 48)).astype(np.float32)
    scale = np.where(rng.random(64) < 0.06, 20, 0.3).astype(np.float32)  # a few strong inputs
    shift = rng.standard_normal(64).astype(np.float32) / 10
    body = "a = LayerNormalization (x, s, b) y = MatMul (a, w)"
    text = f"{HEAD} g (float[n, 64] x) => (float[n, 48] y) {{ {body} }}"
    x = rng.standard_normal((400, 64)).astype(np.float32)
    wanted = run_onnx(build(text, {"s": scale, "b": shift, "w": weight}), {"x": x[200:]})[0]
    errors, notes = [], list[str]()
    for moves in (False, True):
        model = infer_shapes_of(build(text, {"s": scale, "b": shift, "w": weight}))
        report = quantize(
            model,
            Context(Calibration([{"x": x[:200]}])),
            dtype="int3",
            balance=moves,
            compensate=False,
            fit=False,
        )
        notes += report.notes
        errors.append(np.linalg.norm(run_onnx(model, {"x": x[200:]})[0] - wanted))
    assert notes == ["values scaled so that rounding costs less: 1"]
    assert errors[1] < 0.7 * errors[0]


def test_layers_that_are_skipped_or_cannot_be_stored_say_why(cnn: ir.Model) -> None:
    model = prepare(cnn)
    report = quantize(model, nodes={"pointwise*": {"skip": True}}, layers=("Conv",), min_elements=300)
    reasons = {refusal.node: refusal.reason for refusal in report.refused}
    assert reasons["pointwise1"] == "the recipe skips it"
    assert reasons["classifier"] == "the recipe takes Conv only"
    assert reasons["depthwise"] == "288 weights are too few, the least is 300"
    again = quantize(model, min_elements=300)
    assert {r.node: r.reason for r in again.refused}[
        "square"
    ] == "its weights are stored by DequantizeLinear already"
