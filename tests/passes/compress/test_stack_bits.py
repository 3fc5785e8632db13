"""stack-bits: blocks bring layers nearer on the data they see, and are ordered by what they gain."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.formats import DOMAIN, find_format
from gossamer.kernels.formats.bit_stack import head
from gossamer.passes.activations import Calibration
from gossamer.passes.bit_stacking import block_rank, load_order, stack_blocks
from gossamer.passes.clean import prepare
from gossamer.passes.compress.stack_bits import StackBits
from gossamer.passes.context import Context
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport

FORMAT = find_format("bit-stack")
HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def stack(model: ir.Model, context: Context | None = None, **options: Any) -> PassReport:
    report: PassReport = StackBits(**options).within(context or Context())(model).report  # type: ignore[attr-defined]
    return report


def parts_of(model: ir.Model, node: ir.Node) -> dict[str, Any]:
    arrays = [value.const_value.numpy() for value in node.inputs if value and value.const_value]
    return dict(zip(FORMAT.parts, arrays, strict=True))


def test_every_layer_runs_in_onnxruntime_near_the_dense_one(cnn: ir.Model, image: dict[str, Any]) -> None:
    model = prepare(cnn)
    dense = run_onnx(model, image)
    report = stack(model, blocks=5, min_elements=1024)
    onnx.checker.check_model(ir.to_proto(model))
    calls = [node for node in model.graph if node.domain == DOMAIN]
    assert len(calls) == len(report.changed) >= 3
    for old, new in zip(dense, run_onnx(model, image), strict=True):
        assert np.abs(new - old).max() < 0.2 * np.ptp(old)
    stored = sum(change.bytes_after for change in report.changed)
    parts = [parts_of(model, node) for node in calls]
    assert stored == sum(FORMAT.stored_bytes(each) for each in parts)
    orders = sorted(int(number) for each in parts for number in each["order"])
    assert orders == list(range(5 * len(calls)))
    assert sorted(int(each["order"][0]) for each in parts) == list(range(len(calls)))


def test_the_approximate_factors_are_as_good_as_the_exact_ones() -> None:
    weight = np.random.default_rng(0).standard_t(3, (120, 90)).astype(np.float32)
    found = stack_blocks(weight, None, 4, 4)
    exact = FORMAT.encode(weight, blocks=4, rank=block_rank(120, 90, 4))
    for blocks, error in enumerate(found.errors[1:], 1):
        best = np.linalg.norm(FORMAT.decode(head(exact, blocks)) - weight) / np.linalg.norm(weight)
        assert error**0.5 == pytest.approx(best, rel=0.02)
        own = FORMAT.decode(head(found.parts(range(4)), blocks))
        assert np.linalg.norm(own - weight) / np.linalg.norm(weight) == pytest.approx(error**0.5, rel=1e-3)


def test_inputs_that_are_large_in_the_data_are_stored_better(build: Any) -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((96, 80)).astype(np.float32)
    x = (rng.standard_normal((400, 96)) * np.exp2(rng.uniform(-4, 4, 96))).astype(np.float32)
    text = f"{HEAD} g (float[n, 96] x) => (float[n, 80] y) {{ y = MatMul (x, w) }}"
    errors = []
    for context in (Context(), Context(Calibration([{"x": x[:200]}]))):
        model = build(text, {"w": weight})
        stack(model, context, blocks=3)
        errors.append(np.linalg.norm(run_onnx(model, {"x": x[200:]})[0] - x[200:] @ weight))
    assert errors[1] < 0.95 * errors[0]


def test_blocks_are_loaded_by_what_they_gain_for_their_bytes() -> None:
    errors = [[1, 0.5, 0.4, 0.35], [1, 0.2, 0.19], [1, 0.8, 0.3]]
    assert load_order(errors, [100, 100, 1000]) == [[0, 3, 4], [1, 6], [2, 5]]
    # 3, 4: 0.1 and 0.05 for 100 bytes; 5: 0.5 for 1000; 6: 0.01 for 100


def test_rank_is_one_where_factors_would_cost_much() -> None:
    assert block_rank(4096, 4096, 16) == 16
    assert block_rank(64, 576, 16) == 1
    assert block_rank(512, 1024, 16) == 10


def test_layers_that_would_not_shrink_say_why(cnn: ir.Model) -> None:
    report = stack(prepare(cnn), blocks=64, min_elements=0)
    assert not report.changed
    assert all("64 blocks would take" in refusal.reason for refusal in report.refused)
