"""quantize-spqr: onnxruntime decodes the very weights that were chosen; layers are refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.formats import DOMAIN
from gossamer.passes.activations import Calibration
from gossamer.passes.clean import prepare
from gossamer.passes.compress.quantize_spqr import QuantizeSpqr
from gossamer.passes.context import Context
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.runtime.errors import OptionError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def quantize(model: ir.Model, context: Context | None = None, **options: Any) -> PassReport:
    step = QuantizeSpqr(**options).within(context or Context())
    report: PassReport = step(model).report  # type: ignore[attr-defined]
    return report


def one_layer(build: Any, weight: Any) -> ir.Model:
    text = (
        f"{HEAD} g (float[n, {len(weight)}] x) => (float[n, {weight.shape[1]}] y) {{ [m] y = MatMul (x, w) }}"
    )
    model: ir.Model = build(text, {"w": weight})
    return model


def test_every_layer_runs_in_onnxruntime_near_the_dense_one(cnn: ir.Model, image: dict[str, Any]) -> None:
    model = prepare(cnn)
    dense = run_onnx(model, image)
    report = quantize(model, bits=6, outliers=0.02, min_elements=0)
    onnx.checker.check_model(ir.to_proto(model))
    assert report.changed
    assert {node.op_type for node in model.graph if node.domain == DOMAIN} == {"SpqrDecode", "OutliersDecode"}
    for old, new in zip(dense, run_onnx(model, image), strict=True):
        assert np.abs(new - old).max() < 0.1 * np.ptp(old)


def test_reported_bytes_are_those_stored(build: Any) -> None:
    weight = np.random.default_rng(0).standard_t(3, (96, 128)).astype(np.float32)
    model = one_layer(build, weight)
    report = quantize(model)
    stored = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    assert report.changed[0].bytes_after == stored < weight.nbytes / 7
    assert f"{8 * stored / weight.size:.2f} bits per weight" in report.changed[0].detail


def test_calibration_data_makes_outputs_better(build: Any) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_t(3, (64, 48)).astype(np.float32)
    x = (rng.standard_normal((300, 8)) @ rng.standard_normal((8, 64))).astype(np.float32)
    wanted = x[200:] @ weight
    errors = []
    for context in (Context(), Context(Calibration([{"x": x[:200]}]))):
        model = one_layer(build, weight)
        quantize(model, context, min_elements=0)
        errors.append(np.linalg.norm(run_onnx(model, {"x": x[200:]})[0] - wanted))
    assert errors[1] < 0.5 * errors[0]


def test_layers_that_would_not_shrink_or_are_skipped_say_why(cnn: ir.Model) -> None:
    model = prepare(cnn)
    report = quantize(model, nodes={"pointwise*": {"skip": True}})
    reasons = {refusal.node: refusal.reason for refusal in report.refused}
    assert reasons["pointwise1"] == "the recipe skips it"
    assert "too few" in reasons["depthwise"]
    report = quantize(model, min_elements=0, rows=1, group=2, bits=8)
    assert any("dense takes" in refusal.reason for refusal in report.refused)


@pytest.mark.parametrize(
    "options", [{"bits": 9}, {"outliers": 0.6}, {"group": 1}, {"rows": 0}, {"nodes": {"a": {"bit": 3}}}]
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    from gossamer.passes.catalog import make_pass

    with pytest.raises(OptionError):
        make_pass("quantize-spqr", options)
