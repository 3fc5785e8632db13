"""Groups are pruned by what the outputs lose, survivors rounded; calibration data makes both better."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.formats import DOMAIN, find_format
from gossamer.kernels.formats.group_sparse_int4 import parse_groups
from gossamer.passes.activations import Calibration
from gossamer.passes.catalog import make_pass
from gossamer.passes.clean import prepare
from gossamer.passes.compress.quantize_sparse_groups import QuantizeSparseGroups
from gossamer.passes.context import Context
from gossamer.passes.group_losses import group_losses, keep_largest
from gossamer.passes.grouped_rounding import inverse_factor
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.passes.sparse_group_rounding import fit_scales, round_survivors
from gossamer.runtime.errors import OptionError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
Array = np.ndarray[Any, np.dtype[Any]]


def quantize(model: ir.Model, feeds: list[dict[str, Array]] | None = None, **options: Any) -> PassReport:
    options = {"keep_first": False, "keep_last": False, **options}
    own = QuantizeSparseGroups(**options).within(Context(Calibration(feeds) if feeds else None))
    report: PassReport = own(model).report  # type: ignore[attr-defined]
    return report


def correlated(seed: int, count: int, depth: int) -> Array:
    """Rows of inputs of different sizes that follow each other."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, depth)) @ rng.standard_normal((depth, depth)) / depth**0.5
    found: Array = (mixed * np.exp(rng.standard_normal(depth))).astype(np.float32)
    return found


def product(build: Any, seed: int = 0, depth: int = 128, columns: int = 48) -> tuple[ir.Model, Array]:
    weight = np.random.default_rng(seed).standard_normal((depth, columns)).astype(np.float32)
    text = f"{HEAD} g (float[64, {depth}] x) => (float[64, {columns}] y) {{ y = MatMul (x, w) }}"
    return build(text, {"w": weight}), weight


@pytest.mark.parametrize("group", [16, 32, 64, 128])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_the_share_of_groups_survives(build: Any, group: int, sparsity: float) -> None:
    model, _ = product(build, depth=200)  # no multiple of a group
    report = quantize(model, group=group, sparsity=sparsity)
    onnx.checker.check_model(ir.to_proto(model))
    groups = 48 * -(-200 // group)
    kept = len(model.graph.initializers["w.scale"].const_value.numpy())  # type: ignore[union-attr]
    assert kept == round((1 - sparsity) * groups)
    stored = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    assert report.changed[0].bytes_after == stored


def test_onnxruntime_multiplies_by_what_numpy_decodes(cnn: ir.Model, image: dict[str, Array]) -> None:
    model = prepare(cnn)
    report = quantize(model, min_elements=0)
    assert {change.operator for change in report.changed} >= {"Conv"}
    kind = find_format("group-sparse-int4")
    for call in [node for node in model.graph if node.domain == DOMAIN]:
        parts = {p: v.const_value.numpy() for p, v in zip(kind.parts, call.inputs, strict=True)}  # type: ignore[union-attr]
        assert parse_groups(parts).size == 16
    assert np.isfinite(run_onnx(model, image)[0]).all()


def outputs_error(build: Any, x: Array, feeds: list[dict[str, Array]] | None, **options: Any) -> float:
    model, weight = product(build)
    quantize(model, feeds, **options)
    exact = x @ weight
    return float(np.square(run_onnx(model, {"x": x})[0] - exact).mean() / np.square(exact).mean())


def test_calibration_data_lowers_the_error_of_outputs(build: Any) -> None:
    mixing = correlated(5, 64 * 9, 128).reshape(9, 64, 128)
    feeds, unseen = [{"x": rows} for rows in mixing[1:]], mixing[0]
    blind = outputs_error(build, unseen, None)
    weighted = outputs_error(build, unseen, feeds, loss="activation", compensate=False)
    compensated = outputs_error(build, unseen, feeds)
    assert compensated < weighted < blind


def test_a_global_budget_takes_more_from_layers_that_lose_less(build: Any) -> None:
    rng = np.random.default_rng(0)
    even = rng.standard_normal((128, 64)).astype(np.float32)
    uneven = even * (rng.random((8, 1, 64)) < 0.3).repeat(16, axis=1).reshape(128, 64) + 0.01 * even
    body = "a = MatMul (x, u)  b = MatMul (x, v)  y = Add (a, b)"
    text = f"{HEAD} g (float[2, 128] x) => (float[2, 64] y) {{ {body} }}"
    model = build(text, {"u": even, "v": uneven.astype(np.float32)})
    quantize(model, scope="global", sparsity=0.5)
    counts = [len(model.graph.initializers[f"{n}.scale"].const_value.numpy()) for n in "uv"]
    assert sum(counts) == 512
    assert counts[0] > 1.5 * counts[1]


def test_second_order_losses_are_the_least_error_of_outputs() -> None:
    rows = correlated(1, 400, 40)
    weight = np.random.default_rng(2).standard_normal((3, 40)).astype(np.float32)
    factor = inverse_factor(rows)
    moments = np.linalg.inv(factor.T @ factor)
    losses = group_losses(weight, 16, "second-order", factor, None)
    for number, start in enumerate(range(0, 40, 16)):
        gone = np.arange(start, min(40, start + 16))
        rest = np.setdiff1d(np.arange(40), gone)
        for output, row in enumerate(weight.astype(np.float64)):
            change = np.zeros(40)
            change[gone] = -row[gone]
            change[rest] = np.linalg.solve(
                moments[np.ix_(rest, rest)], moments[np.ix_(rest, gone)] @ row[gone]
            )
            assert losses[output, number] == pytest.approx(change @ moments @ change, rel=1e-6)


def test_scales_fit_better_than_the_range_alone() -> None:
    weights = np.random.default_rng(0).standard_normal((200, 16))
    scales, zeros = fit_scales(weights, np.ones(16))
    assert np.array_equal(scales, scales.astype(np.float16).astype(np.float32))

    def error(scale: Array, zero: Array) -> float:
        levels = np.clip(np.rint(weights / scale[:, None]) + zero[:, None], 0, 15)
        return float(np.square(weights - scale[:, None] * (levels - zero[:, None])).sum())

    plain = (weights.max(axis=1) - weights.min(axis=1)) / 15
    assert error(scales, zeros) < 0.95 * error(plain, np.rint(-weights.min(axis=1) / plain))


def test_rows_without_groups_and_weights_that_are_equal_round_too() -> None:
    weight = np.zeros((4, 20), np.float32)
    weight[1], weight[2] = 0.25, -3
    alive = np.zeros((4, 2), bool)
    alive[1:3] = True
    found = round_survivors(weight, alive, 16, np.ones(20))
    assert found.row_starts.tolist() == [0, 0, 2, 4, 4]
    assert np.allclose(found.matrix(), weight, rtol=1e-3)


def test_of_equal_losses_the_later_stay_and_one_always_does() -> None:
    assert keep_largest(np.ones((2, 2)), 1).tolist() == [[False, False], [False, True]]
    assert keep_largest(np.ones((2, 2)), 0).sum() == 1


@pytest.mark.parametrize(
    "options",
    [{"group": 8}, {"group": 48}, {"sparsity": 1.0}, {"sparsity": -0.1}, {"loss": "l1"}, {"scope": "all"}],
)
def test_bad_options_are_refused_before_work_starts(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        make_pass("quantize-sparse-groups", options)


def test_a_loss_by_activations_needs_calibration_data(build: Any) -> None:
    model, _ = product(build)
    with pytest.raises(OptionError, match="calibration data"):
        quantize(model, loss="activation")


def test_small_layers_stay_and_say_why(build: Any) -> None:
    model, _ = product(build)
    assert "too few" in quantize(model, min_elements=10**6).refused[0].reason
