"""quantize-activations: int8 weights get integer inputs, others stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.passes.clean import prepare
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.running import convert_model
from gossamer.runtime.errors import OptionError


def test_the_recipe_w4a8_gives_integer_products(cnn: ir.Model, image: dict[str, Any]) -> None:
    model = prepare(cnn)
    dense = run_onnx(model, image)[0]
    settings = ["quantize-weights.min_elements=0"]
    converted, _ = convert_model(model, load_recipe("w4a8").with_settings(settings), calibration=[image])
    onnx.checker.check_model(ir.to_proto(converted), full_check=True)
    for node in converted.graph:
        if node.op_type in ("Conv", "Gemm"):
            sources = [value.producer() for value in node.inputs[:2] if value is not None]
            assert [source and source.op_type for source in sources] == ["DequantizeLinear"] * 2
            codes = [source.inputs[0] for source in sources if source is not None]
            assert [value and value.dtype for value in codes] == [ir.DataType.UINT8, ir.DataType.INT8]
    assert np.abs(run_onnx(converted, image)[0] - dense).max() < 0.3 * np.ptp(dense)


def test_weights_of_another_kind_are_refused(cnn: ir.Model, image: dict[str, Any]) -> None:
    recipe = load_recipe("w4a8").with_settings(
        ["quantize-weights.dtype=int4", "quantize-weights.first=int4", "quantize-weights.depthwise=int4"]
    )
    _, report = convert_model(prepare(cnn), recipe, calibration=[image])
    refused = next(entry for entry in report.passes if entry.name == "quantize-activations").refused
    assert {each.reason for each in refused} == {"its weights are not int8 with one scale for each output"}
    assert len(refused) == 6


def test_it_needs_calibration_data(cnn: ir.Model) -> None:
    with pytest.raises(OptionError, match="sample inputs"):
        convert_model(prepare(cnn), load_recipe("w4a8"))
