"""Recipes over whole models: what changes, what stays, and what is reported."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.base import STAGES
from gossamer.passes.catalog import find_pass, pass_names
from gossamer.passes.recipe import load_recipe, recipe_names
from gossamer.passes.reference import run_onnx
from gossamer.passes.rounding import TOLERANCE
from gossamer.passes.running import convert_model
from gossamer.passes.verifying import verify_conversion
from gossamer.runtime.errors import JobError

Feeds = dict[str, Any]


def test_presets_are_those_that_the_documentation_names() -> None:
    assert set(recipe_names()) >= {"default", "sparse-30", "sparse-50", "sparse-80", "sparse-90"}


@pytest.mark.parametrize("name", pass_names())
def test_a_pass_lives_in_the_folder_of_its_stage(name: str) -> None:
    kind = find_pass(name)
    assert kind.__module__.split(".")[-2] == kind.stage
    assert kind.stage in STAGES
    assert isinstance(kind.exact, bool)
    assert kind.__doc__


def test_the_source_model_stays_as_it_is(cnn: ir.Model, image: Feeds) -> None:
    before = ir.to_proto(cnn).SerializeToString(deterministic=True)
    convert_model(cnn, load_recipe("sparse-80"))
    assert ir.to_proto(cnn).SerializeToString(deterministic=True) == before


def test_the_default_recipe_keeps_the_outputs(cnn: ir.Model, image: Feeds) -> None:
    converted, report = convert_model(cnn, load_recipe("default"))
    checks = verify_conversion(cnn, converted, report, image)
    assert report.exact
    assert [check.output for check in checks] == ["y"]
    assert all(check.relative <= TOLERANCE for check in checks)
    assert "BatchNormalization" not in [n.op_type for n in converted.graph if n.name == "stem_bn"]


def test_conversion_gives_the_same_bytes_each_time(cnn: ir.Model) -> None:
    recipe = load_recipe("sparse-80")
    files = [ir.to_proto(convert_model(cnn, recipe)[0]).SerializeToString(deterministic=True) for _ in "ab"]
    assert files[0] == files[1]


def test_converting_twice_changes_nothing_more(cnn: ir.Model, image: Feeds) -> None:
    once, _ = convert_model(cnn, load_recipe("sparse-80"))
    twice, report = convert_model(once, load_recipe("sparse-80"))
    assert [len(entry.changed) for entry in report.passes if entry.stage == "compress"] == [0, 0, 0]
    assert np.array_equal(run_onnx(once, image)[0], run_onnx(twice, image)[0])


def test_the_report_accounts_for_every_layer(cnn: ir.Model, image: Feeds) -> None:
    converted, report = convert_model(cnn, load_recipe("sparse-80"), check_with=image)
    (prune,) = (entry for entry in report.passes if entry.name == "prune")
    assert prune.matched == 6 == len(prune.changed) + len(prune.refused)
    assert {change.node for change in prune.changed} == {"pointwise1", "pointwise2", "square"}
    assert {refusal.node: refusal.reason.split(",")[0] for refusal in prune.refused} == {
        "stem": "a first layer",
        "depthwise": "a convolution in 32 groups has few weights for each output",
        "classifier": "a last layer",
    }
    assert not report.exact
    assert report.bytes_after < report.bytes_before
    assert {check.stage for check in report.checks} == {
        "inline-functions to remove-unused",
        "rearrange-channels",
        "encode-sparse to fuse-qdq",
    }
    data = json.loads(report.to_json())
    assert data["format"] == "gossamer-report"
    assert data["passes"][-1]["stage"] == "fuse"
    assert converted.graph.outputs[0].name == "y"


def test_the_html_report_is_one_page_and_escapes_names(cnn: ir.Model) -> None:
    cnn.graph[0].name = "<script>alert(1)</script>"
    _, report = convert_model(cnn, load_recipe("sparse-80"))
    page = report.to_html()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page


def test_progress_counts_up_to_the_end(cnn: ir.Model) -> None:
    seen: list[tuple[str, int, int]] = []
    convert_model(cnn, load_recipe("default"), progress=lambda *step: seen.append(step))
    counts = [done for _, done, _ in seen]
    assert counts == sorted(counts)
    assert seen[-1][1] == seen[-1][2] == len(load_recipe("default").passes)


def test_calibration_that_nobody_uses_is_reported(cnn: ir.Model, image: Feeds) -> None:
    _, report = convert_model(cnn, load_recipe("default"), calibration=[image])
    assert "calibration" in report.passes[0].notes[-1]


def test_a_lossy_conversion_is_bounded_only_where_asked(cnn: ir.Model, image: Feeds) -> None:
    converted, report = convert_model(cnn, load_recipe("sparse-90"))
    (check,) = verify_conversion(cnn, converted, report, image)
    assert check.tolerance is None
    assert check.relative > TOLERANCE
    with pytest.raises(JobError, match=r"output 'y'.*at most 1e-06"):
        verify_conversion(cnn, converted, report, image, max_error=1e-6)


def test_a_wrong_exact_conversion_fails(cnn: ir.Model, image: Feeds) -> None:
    converted, report = convert_model(cnn, load_recipe("default"))
    bias = converted.graph.initializers["b5"]
    assert bias.const_value is not None
    bias.const_value = ir.Tensor(bias.const_value.numpy() + np.float32(1), name="b5")
    with pytest.raises(JobError, match="differs from its source"):
        verify_conversion(cnn, converted, report, image)
    assert not report.checks[-1].passed


def test_symbolic_dimensions_stay_symbolic(build: Any) -> None:
    model = build(
        '<ir_version: 10, opset_import: ["": 21]> '
        "g (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }"
    )
    converted, _ = convert_model(model, load_recipe("default"))
    assert str(converted.graph.inputs[0].shape) == "[batch,4]"
    fixed, _ = convert_model(model, load_recipe("default"), input_shapes={"x": [2, 4]})
    assert list(fixed.graph.outputs[0].shape or []) == [2, 4]


def _logistic(build: Any, factor: float) -> ir.Model:
    """x * factor, and 14 times 4 x (1 - x): every step doubles an error."""
    steps = " ".join(
        f"r{i} = Sub (one, x{i}) s{i} = Mul (x{i}, r{i}) x{i + 1} = Mul (s{i}, four)" for i in range(14)
    )
    text = f"g (float[64] x) => (float[64] x14) {{ x0 = Mul (x, factor) {steps} }}"
    values = {"one": 1, "four": 4, "factor": factor}
    weights = {name: np.array([value], np.float32) for name, value in values.items()}
    found: ir.Model = build(f'<ir_version: 10, opset_import: ["": 21]> {text}', weights)
    return found


def test_rounding_that_a_model_amplifies_is_allowed(build: Any) -> None:
    before, after = _logistic(build, 1), _logistic(build, 1 + 1e-7)
    feeds = {"x": np.random.default_rng(0).random(64, dtype=np.float32)}
    report = convert_model(before, load_recipe("default"))[1]
    (check,) = verify_conversion(before, after, report, feeds)
    assert check.relative > TOLERANCE
    with pytest.raises(JobError, match="differs from its source"):
        verify_conversion(before, _logistic(build, 1.001), report, feeds)
