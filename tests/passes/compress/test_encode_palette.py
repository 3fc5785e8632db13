"""Weights that were compressed before are stored so, and give the very same bits in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.formats import DOMAIN
from gossamer.passes.catalog import make_pass
from gossamer.passes.clean import prepare
from gossamer.passes.compress.cluster_weights import ClusterWeights
from gossamer.passes.recipe import load_recipe
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.passes.running import convert_model, run_passes

HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def gemm(build: Any, weight: Any) -> ir.Model:
    outputs, inputs = weight.shape
    text = f"{HEAD} g (float[5, {inputs}] x) => (float[5, {outputs}] y) {{ y = Gemm <transB = 1> (x, w) }}"
    model: ir.Model = build(text, {"w": np.ascontiguousarray(weight, np.float32)})
    return model


def encode(model: ir.Model, **options: Any) -> PassReport:
    report: PassReport = make_pass("encode-palette", options)(model).report  # type: ignore[attr-defined]
    return report


def calls(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph if node.domain == DOMAIN]


def assert_same_bits(model: ir.Model, encoded: ir.Model) -> None:
    onnx.checker.check_model(ir.to_proto(encoded))
    width = model.graph.inputs[0].shape.numpy()[1]  # type: ignore[union-attr]
    feeds = {"x": np.random.default_rng(9).standard_normal((5, width), dtype=np.float32)}
    assert run_onnx(model, feeds)[0].tobytes() == run_onnx(encoded, feeds)[0].tobytes()


@pytest.mark.parametrize("values", [1, 2, 3, 8, 16, 17, 100, 256])
def test_few_values_become_a_palette(build: Any, values: int) -> None:
    rng = np.random.default_rng(values)
    weight = rng.choice(rng.standard_normal(values).astype(np.float32), (70, 90))
    model = gemm(build, weight)
    encoded = model.clone()
    (change,) = encode(encoded).changed
    bits = max(1, (len(np.unique(weight)) - 1).bit_length())
    assert change.bytes_after == -(-70 * 90 * bits // 8) + 4 * 2**bits + 2 + 2 + 8 * 5
    assert calls(encoded) == ["PaletteDecode"]
    assert_same_bits(model, encoded)


@pytest.mark.parametrize("steps", [1, 7, 127])
def test_dequantised_weights_become_a_palette_with_scales(build: Any, steps: int) -> None:
    rng = np.random.default_rng(steps)
    numbers = rng.integers(-steps, steps + 1, (60, 50)).astype(np.float32)
    numbers[0], numbers[1, 0] = 0, steps
    weight = numbers * (rng.random((60, 1)) * 0.1 + 0.01).astype(np.float32)
    model = gemm(build, weight)
    encoded = model.clone()
    (change,) = encode(encoded).changed
    assert "a scale for each output" in change.detail
    assert change.bytes_after < change.bytes_before * {1: 0.1, 7: 0.17, 127: 0.3}[steps]
    assert_same_bits(model, encoded)


def test_few_values_between_many_zeros_become_blocks_of_a_palette(build: Any) -> None:
    rng = np.random.default_rng(0)
    weight = rng.choice(rng.standard_normal(16).astype(np.float32), (64, 80))
    weight[np.repeat(rng.random((16, 80)) < 0.8, 4, axis=0)] = 0
    model = gemm(build, weight)
    encoded = model.clone()
    (change,) = encode(encoded).changed
    assert calls(encoded) == ["PaletteDecode", "BlockSparseDecode"]
    assert change.bytes_after < 0.35 * 64 * 80 * 4 / 8
    assert_same_bits(model, encoded)


def test_other_weights_stay_and_say_why(build: Any) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 80), dtype=np.float32)
    report = encode(gemm(build, weight))
    assert "more than 256 values" in report.refused[0].reason
    report = encode(gemm(build, weight[:5, :6]))
    assert report.refused[0].reason.startswith("it would take ")
    weight[:] = 1
    weight[0, 0] = np.nan
    assert encode(gemm(build, weight)).changed == []
    weight[0, 0] = 2
    assert encode(gemm(build, weight), skip=True).refused[0].reason == "the recipe skips it"


def test_a_clustered_model_is_recognized_again(cnn: ir.Model, image: dict[str, Any]) -> None:
    """Decoded to dense weights and saved by other tools, it gets its palettes back."""
    model = prepare(cnn)
    clustered = ClusterWeights(bits=4, min_elements=0)
    clustered(model)
    dense = model.clone()
    run_passes(dense, load_recipe("default").with_settings(["fold-constants.limit_bytes=16777216"]))
    for node in list(dense.graph):
        if node.domain == DOMAIN:
            value = node.outputs[0]
            assert value.name is not None
            dense.graph.outputs.append(value)
    decoded = run_onnx(dense, image)[1:]
    plain = prepare(cnn)
    names = [node.outputs[0].name for node in dense.graph if node.domain == DOMAIN]
    for name, array in zip(names, decoded, strict=True):
        plain.graph.initializers[str(name)].const_value = ir.Tensor(array, name=name)
    again, report = convert_model(plain, load_recipe("lossless"))
    assert sorted(calls(again)) == sorted(calls(model))
    assert report.exact
    assert run_onnx(again, image)[0].tobytes() == run_onnx(plain, image)[0].tobytes()


def test_a_product_of_two_matrices_stays_one(build: Any) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((200, 8), np.float32), rng.standard_normal((8, 300), np.float32)
    for body in ("t = MatMul (x, a)  y = MatMul (t, b)", "w = MatMul (a, b)  y = MatMul (x, w)"):
        model = build(
            f"{HEAD} g (float[5, 200] x) => (float[5, 300] y) {{ {body} }}", {"a": left, "b": right}
        )
        converted, report = convert_model(model, load_recipe("lossless"))
        assert [node.op_type for node in converted.graph] == ["MatMul", "MatMul"]
        assert report.bytes_after == report.bytes_before
