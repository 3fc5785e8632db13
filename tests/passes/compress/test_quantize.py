"""quantize: onnxruntime runs the result near the float model; options, statistics and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.quantization import dequantize_linear
from gossamer.passes.activations import Calibration
from gossamer.passes.clean import prepare
from gossamer.passes.compress.quantize import Quantize
from gossamer.passes.context import Context
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.runtime.errors import JobError, OptionError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
RNG = np.random.default_rng(3)
IMAGES = [{"x": RNG.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(6)]


def quantize(model: ir.Model, feeds: Any = IMAGES, **options: Any) -> PassReport:
    step = Quantize(**options).within(Context(Calibration(feeds) if feeds else None))
    step.check(model)
    report: PassReport = step(model).report  # type: ignore[attr-defined]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return report


def spread_error(model: ir.Model, dense: list[np.ndarray], feeds: dict[str, np.ndarray]) -> float:
    pairs = zip(dense, run_onnx(model, feeds), strict=True)
    return max(float(np.abs(new - old).max() / np.ptp(old)) for old, new in pairs)


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, 0.03),
        ({"activations": "int8", "symmetric": True, "method": "min-max"}, 0.05),
        ({"per_channel": False}, 0.06),
        ({"equalize": True, "smooth": 0.5}, 0.04),
        ({"search": True, "compensate": True, "correct": True}, 0.04),
        ({"coverage": "all"}, 0.04),
        ({"dynamic": True, "layers": ("Conv", "Gemm")}, 0.04),
    ],
)
def test_onnxruntime_runs_the_result_near_the_float_model(
    cnn: ir.Model, options: dict[str, Any], bound: float
) -> None:
    model = prepare(cnn)
    dense = run_onnx(model, IMAGES[0])
    report = quantize(model, **options)
    assert len(report.changed) == 6
    assert report.bytes_after < report.bytes_before / 3.4
    assert 0 < spread_error(model, dense, IMAGES[0]) < bound


def test_weights_and_biases_are_integers_on_the_grids_of_the_layer(cnn: ir.Model) -> None:
    model = prepare(cnn)
    weights = {
        v.name: v.const_value.numpy().copy() for v in model.graph.initializers.values() if v.const_value
    }
    quantize(model)
    for node in model.graph:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        x, w, b = (*(value.producer() if value is not None else None for value in node.inputs), None)[:3]
        assert x is not None
        assert w is not None
        scale = [value.const_value.numpy() for value in (x.inputs[1], w.inputs[1])]  # type: ignore[union-attr]
        whole = w.inputs[0].const_value.numpy()  # type: ignore[union-attr]
        assert whole.dtype == np.int8
        assert np.abs(whole.astype(int).reshape(len(whole), -1)).max(axis=1).tolist() == [127] * len(whole)
        back = dequantize_linear(whole, scale[1], None, axis=0)
        error = np.abs(back - weights[node.inputs[1].name])  # type: ignore[union-attr]
        assert (error.reshape(len(whole), -1).max(axis=1) <= scale[1] * 0.5001).all()
        if b is not None:
            assert b.inputs[0].dtype == ir.DataType.INT32  # type: ignore[union-attr]
            np.testing.assert_array_equal(b.inputs[1].const_value.numpy(), scale[0] * scale[1])  # type: ignore[union-attr]


def test_statistics_that_were_saved_give_the_identical_model(cnn: ir.Model, tmp_path: Path) -> None:
    file = tmp_path / "statistics.npz"
    first, second = prepare(cnn), prepare(cnn)
    quantize(first, save=file, smooth=0.5, method="entropy")
    quantize(second, feeds=None, statistics=file, smooth=0.5, method="entropy")
    assert ir.to_proto(first).SerializeToString() == ir.to_proto(second).SerializeToString()
    again = tmp_path / "again.npz"
    quantize(prepare(cnn), save=again, smooth=0.5)
    assert again.read_bytes() == file.read_bytes()


def test_statistics_of_another_model_are_refused(cnn: ir.Model, tmp_path: Path) -> None:
    file = tmp_path / "statistics.npz"
    quantize(prepare(cnn), save=file)
    other = prepare(cnn)
    weight = next(iter(other.graph.initializers.values()))
    assert weight.const_value is not None
    weight.const_value = ir.Tensor(weight.const_value.numpy() * 2)
    with pytest.raises(OptionError, match="another model"):
        quantize(other, feeds=None, statistics=file)
    np.savez(file, x=np.zeros(3))
    with pytest.raises(OptionError, match="not a file of statistics"):
        quantize(prepare(cnn), feeds=None, statistics=file)


def test_without_data_there_is_an_error_that_says_what_to_do(cnn: ir.Model) -> None:
    with pytest.raises(OptionError, match=r"--calibrate.*int8-dynamic"):
        quantize(prepare(cnn), feeds=None)


def test_a_value_that_is_not_finite_is_named(build: Any) -> None:
    text = f"{HEAD} g (float[n, 4] x) => (float[n, 4] y) {{ a = Reciprocal (x) y = MatMul (a, w) }}"
    model = build(text, {"w": np.ones((4, 4), np.float32)})
    with pytest.raises(JobError, match=r"a, calibration feed 1.*inf"):
        quantize(model, [{"x": np.ones((2, 4), np.float32)}, {"x": np.zeros((2, 4), np.float32)}])


def test_layers_stay_float_by_name_operator_and_sensitivity(cnn: ir.Model) -> None:
    model = prepare(cnn)
    report = quantize(model, nodes={"point*": {"skip": True}}, operators={"Gemm": {"skip": True}}, keep=1)
    reasons = {refusal.node: refusal.reason for refusal in report.refused}
    assert {reasons[name] for name in ("pointwise1", "pointwise2", "classifier")} == {"the recipe skips it"}
    assert sum("hurts most" in reason for reason in reasons.values()) == 1
    assert len(report.changed) == 2


def test_a_drop_of_nothing_keeps_more_layers_than_a_large_one(cnn: ir.Model) -> None:
    feeds = [{"x": RNG.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(24)]
    counts = [len(quantize(prepare(cnn), feeds, max_drop=drop).refused) for drop in (0.9, 0.0)]
    assert counts[0] == 0
    model = prepare(cnn)
    expected = [run_onnx(model, f)[0].argmax() for f in feeds]
    report = quantize(model, feeds, max_drop=0.0)
    assert [run_onnx(model, f)[0].argmax() for f in feeds] == expected
    assert len(report.refused) == counts[1]


def test_a_layer_before_a_logarithm_stays_float(build: Any) -> None:
    text = f"{HEAD} g (float[n, 4] x) => (float[n, 4] y) {{"
    text += " a = MatMul (x, w) b = Mul (a, a) c = Log (b) y = MatMul (c, v) }"
    model = build(text, {"w": np.eye(4, dtype=np.float32), "v": np.ones((4, 4), np.float32)})
    report = quantize(model, [{"x": np.abs(RNG.standard_normal((9, 4))).astype(np.float32) + 1}])
    assert [entry.operator for entry in report.refused] == ["MatMul"]
    assert "logarithm" in report.refused[0].reason
    assert len(report.changed) == 1


def test_correction_mends_the_mean_of_the_outputs(build: Any) -> None:
    weight = RNG.standard_normal((8, 64)).astype(np.float32)
    weight[:, 0] *= 40  # a coarse grid, and inputs that are all positive: rounding shifts the mean
    x = np.abs(RNG.standard_normal((500, 64))).astype(np.float32)
    x[:, 0] = 0
    text = f"{HEAD} g (float[n, 64] x) => (float[n, 8] y) {{ y = Gemm <transB = 1> (x, w, b) }}"
    shifts = []
    for correct in (False, True):
        model = build(text, {"w": weight, "b": np.zeros(8, np.float32)})
        quantize(model, [{"x": x}], correct=correct)
        got = run_onnx(model, {"x": x})[0]
        shifts.append(np.abs((got - x @ weight.T).mean(axis=0)).max())
    assert shifts[1] < 0.1 * shifts[0]


def test_compensated_rounding_makes_outputs_better(build: Any) -> None:
    weight = RNG.standard_normal((64, 32)).astype(np.float32)
    x = (RNG.standard_normal((400, 6)) @ RNG.standard_normal((6, 64))).astype(np.float32)
    text = f"{HEAD} g (float[n, 64] x) => (float[n, 32] y) {{ y = MatMul (x, w) }}"
    errors = []
    for compensate in (False, True):
        model = build(text, {"w": weight})
        quantize(model, [{"x": x[:300]}], compensate=compensate, dynamic=True)
        names = [node.inputs[1].name for node in model.graph if node.op_type == "MatMulInteger"]
        whole = model.graph.initializers[str(names[0])].const_value
        scale = model.graph.initializers["w.scale"].const_value
        assert whole is not None
        assert scale is not None
        errors.append(np.linalg.norm(x[300:] @ (whole.numpy() * scale.numpy() - weight)))
    assert errors[1] < 0.5 * errors[0]


def test_layers_that_share_weights_share_their_integers(build: Any) -> None:
    text = (
        f"{HEAD} g (float[n, 4] x) => (float[n, 4] y) {{ a = MatMul (x, w) b = Relu (a) y = MatMul (b, w) }}"
    )
    weight, x = (
        RNG.standard_normal((4, 4)).astype(np.float32),
        RNG.standard_normal((50, 4)).astype(np.float32),
    )
    for dynamic in (False, True):
        model = build(text, {"w": weight})
        quantize(model, [{"x": x}], dynamic=dynamic)
        stored = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT8 and v.shape]
        assert len([v for v in stored if len(v.shape or ()) == 2]) == 1
        wanted = np.maximum(x @ weight, 0) @ weight
        assert np.abs(run_onnx(model, {"x": x})[0] - wanted).max() < 0.05 * np.ptp(wanted)
