"""Stored as N:M, a pruned model gives the very same bits in onnxruntime; what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.kernels.formats import DOMAIN, find_format
from gossamer.passes.clean import prepare
from gossamer.passes.compress.encode_n_m import EncodeNM
from gossamer.passes.compress.prune import Prune
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.runtime.errors import OptionError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
PRODUCT = f"{HEAD} g (float[5, 64] x) => (float[5, 48] y) {{ y = MatMul (x, w) }}"


def encode(model: ir.Model, **options: Any) -> PassReport:
    report: PassReport = EncodeNM(**options)(model).report  # type: ignore[attr-defined]
    return report


def pruned(model: ir.Model, pattern: str) -> ir.Model:
    options: dict[str, Any] = {"layers": ("Conv", "Gemm", "MatMul"), "kernels": "all", "min_elements": 0}
    Prune(pattern=pattern, keep_first=False, keep_last=False, **options)(model)
    return model


def calls(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.domain == DOMAIN]


def product(build: Any, weight: Any) -> ir.Model:
    model: ir.Model = build(PRODUCT, {"w": weight})
    return model


@pytest.mark.parametrize("pattern", ["1:4", "2:4"])
def test_the_bits_stay_the_same(cnn: ir.Model, image: dict[str, Any], pattern: str) -> None:
    model = pruned(prepare(cnn), pattern)
    sparse = run_onnx(model, image)
    report = encode(model, pattern=pattern)
    assert report.changed
    assert len(calls(model)) == len(report.changed)
    assert [a.tobytes() for a in run_onnx(model, image)] == [a.tobytes() for a in sparse]


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "1:8", "3:16"])
def test_the_smallest_pattern_is_found(build: Any, pattern: str) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 48), dtype=np.float32)
    report = encode(pruned(product(build, weight), pattern))
    assert report.changed[0].detail.startswith(f"{pattern} in float32")


def test_values_that_float16_holds_are_stored_so(build: Any) -> None:
    weight = np.random.default_rng(0).integers(-9, 9, (64, 48)).astype(np.float32)
    model = pruned(product(build, weight), "2:4")
    feeds = {"x": np.random.default_rng(1).standard_normal((5, 64), dtype=np.float32)}
    sparse = run_onnx(model, feeds)[0]
    report = encode(model)
    assert report.changed[0].detail == "2:4 in float16, 9.06 bits per weight"
    assert run_onnx(model, feeds)[0].tobytes() == sparse.tobytes()


def test_a_palette_of_the_values_decodes_too(build: Any) -> None:
    """Any format may store the values: their decoded form is what counts."""
    from gossamer.passes.layers import weighted_layers
    from gossamer.passes.storing import Stored, store_weight

    weight = np.zeros((48, 64), np.float32)
    weight[:, ::4] = np.random.default_rng(0).choice([-1.0, 0.5, 2.0], (48, 16))
    model = product(build, np.ascontiguousarray(weight.T))
    (layer,) = weighted_layers(model)
    parts = find_format("n-m").encode(weight, kept=1, of=4)
    values = Stored("block-sparse", find_format("block-sparse").encode(parts["values"]))
    store_weight(model, layer, Stored("n-m", {**parts, "values": values}), weight.shape)
    x = np.eye(5, 64, dtype=np.float32)
    assert np.array_equal(run_onnx(model, {"x": x})[0], x @ weight.T)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("auto", "is not N:M sparse"), ("2:4", "of 4 consecutive inputs up to 4 are not zero")],
)
def test_a_weight_that_does_not_fit_is_refused(build: Any, pattern: str, reason: str) -> None:
    model = product(build, np.ones((64, 48), np.float32))
    (refused,) = encode(model, pattern=pattern).refused
    assert reason in refused.reason
    assert not calls(model)


def test_a_weight_that_would_not_shrink_is_refused(build: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 48), dtype=np.float32)
    model = pruned(product(build, weight), "15:16")
    (refused,) = encode(model, pattern="15:16").refused
    assert "dense takes" in refused.reason


@pytest.mark.parametrize("pattern", ["4:4", "5:4", "0:4", "2:32", "half", "2x4"])
def test_bad_patterns_are_refused_before_work_starts(pattern: str) -> None:
    from gossamer.passes.catalog import make_pass

    with pytest.raises(OptionError):
        make_pass("encode-n-m", {"pattern": pattern})
