"""onnxruntime as the reference: what it refuses ends in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import onnx_io, run_onnx
from gossamer.passes.running import convert_model
from gossamer.passes.verifying import sample_feeds, verify_conversion
from gossamer.runtime.errors import FeedError, JobError, ModelError

HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def test_inputs_and_outputs_are_described(build: Any) -> None:
    signature = "float16[n, 3] x, int64[2] i, bool c) => (float16[2, 3] y, bool z"
    model = build(f"{HEAD} g ({signature}) {{ y = Gather (x, i)  z = Not (c) }}")
    inputs, outputs = onnx_io(model)
    assert [(t.name, t.dtype, t.shape) for t in inputs] == [
        ("x", "float16", ("n", 3)),
        ("i", "int64", (2,)),
        ("c", "bool", ()),
    ]
    assert [t.dtype for t in outputs] == ["float16", "bool"]


def test_samples_take_one_for_open_sizes(build: Any) -> None:
    model = build(f"{HEAD} g (float[n, m] x) => (float[n, m] y) {{ y = Relu (x) }}")
    assert sample_feeds(model)["x"].shape == (1, 1)
    assert sample_feeds(model, {"x": [3, 4]})["x"].shape == (3, 4)


def test_what_onnxruntime_refuses_is_one_line(build: Any, tmp_path: Path) -> None:
    head = '<ir_version: 10, opset_import: ["": 21, "x.y": 1]>'
    strange = f"{head} g (float[2] x) => (float[2] y) {{ y = x.y.Odd (x) }}"
    with pytest.raises(ModelError, match="onnxruntime does not take it") as caught:
        onnx_io(build(strange))
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no such file"):
        onnx_io(tmp_path / "none.onnx")


def test_feeds_that_do_not_fit_are_refused(cnn: ir.Model, image: dict[str, Any]) -> None:
    with pytest.raises(FeedError, match="an input has no feed"):
        run_onnx(cnn, {"y": image["x"]})
    with pytest.raises(JobError, match="onnxruntime failed"):
        run_onnx(cnn, {"x": image["x"][:, :2]})


def test_a_source_that_cannot_run_on_samples_says_what_to_give(build: Any) -> None:
    text = f"{HEAD} g (float[1, 1, n] x) => (float[1, 1, m] y) {{ y = Conv (x, w) }}"
    model = build(text, {"w": np.ones((1, 1, 9), np.float32)})
    converted, report = convert_model(model, load_recipe("default"))
    with pytest.raises(JobError, match="--input-shape"):
        verify_conversion(model, converted, report, sample_feeds(model))
    verify_conversion(model, converted, report, sample_feeds(model, {"x": [1, 1, 16]}))


def test_a_source_is_verified_at_the_sizes_that_were_given(cnn: ir.Model) -> None:
    shapes = {"x": [2, 3, 20, 16]}
    feeds = sample_feeds(cnn, shapes)
    converted, report = convert_model(cnn, load_recipe("sparse-80"), input_shapes=shapes, check_with=feeds)
    (check,) = verify_conversion(cnn, converted, report, feeds)
    assert check.passed
    assert list(cnn.graph.inputs[0].shape or []) == [1, 3, 12, 12]
