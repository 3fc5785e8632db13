"""What verification lets pass in a quantised model: steps, but no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.quantized.steps import STEPS, step_effects
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import Report
from gossamer.passes.rounding import TOLERANCE, rounding_limits
from gossamer.passes.verifying import verify_conversion
from gossamer.runtime.errors import JobError

RNG = np.random.default_rng
WEIGHT = RNG(1).standard_normal((64, 32), np.float32)
X = RNG(0).standard_normal((4, 64), np.float32)
Q = "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  m = MatMul (d, w)"
ENDS = {
    "floats": "y = Tanh (m)",
    "dequantized": "e = QuantizeLinear (m, t, z)  y = DequantizeLinear (e, t, z)",
    "integers": "y = QuantizeLinear (m, t, z)",
}


def model(build: Any, end: str = "floats", body: str = "") -> ir.Model:
    kind = "uint8" if end == "integers" else "float"
    text = f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[4, 64] x) => ({kind}[4, 32] y) {{ {body or Q} {ENDS[end]} }}"""
    stored = {
        "s": np.float32(0.02),
        "u": np.float32(0.0225),
        "t": np.float32(0.25),
        "z": np.uint8(128),
        "w": WEIGHT,
    }
    built: ir.Model = build(
        text, {name: a for name, a in stored.items() if f"{name})" in text or f"{name}," in text}
    )
    return built


@pytest.mark.parametrize("end", ENDS)
def test_a_step_passes_and_a_handful_does_not(build: Any, end: str) -> None:
    source = model(build, end)
    (y,) = run_onnx(source, {"x": X})
    (limit,) = rounding_limits(source, {"x": X}, [y])
    assert limit > TOLERANCE
    if end == "floats":
        assert limit < 0.05
    else:
        step = 1 if end == "integers" else 0.25
        assert STEPS * step <= limit * np.ptp(y.astype(np.float32)) + 1e-6 < (STEPS + 1.5) * step


def test_nothing_is_added_where_nothing_is_quantized(build: Any) -> None:
    assert step_effects(model(build, body="m = MatMul (x, w)"), {"x": X}) == [0.0]


def test_a_scale_that_is_wrong_by_an_eighth_fails(build: Any) -> None:
    source = model(build, "dequantized")
    report = Report("m", "r")
    verify_conversion(source, source, report, {"x": X})
    wrong = model(build, "dequantized", body=Q.replace("(q, s, z)", "(q, u, z)"))
    with pytest.raises(JobError, match="differs from its source"):
        verify_conversion(source, wrong, report, {"x": X})
