"""Operators of quantised values give what onnxruntime gives, when they are written as Q/DQ."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer.passes.catalog import make_pass
from gossamer.passes.naming import name_everything
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.passes.shapes import infer_shapes

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng


def integers(*shape: int, dtype: str = "uint8", seed: int = 0) -> Array:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return RNG(seed).integers(low, high + 1, shape, dtype)


def build(
    operator: str,
    inputs: list[Any],
    fed: dict[int, Array],
    *,
    domain: str = "com.microsoft",
    out: int = TensorProto.UINT8,
    **attributes: Any,
) -> tuple[ir.Model, dict[str, Array]]:
    """A model of one node: arrays are initializers, those of `fed` inputs, None is left out."""
    names, stored, values = [], [], []
    for index, array in enumerate(inputs):
        name = "" if array is None and index not in fed else f"i{index}"
        names.append(name)
        if index in fed:
            kind = helper.np_dtype_to_tensor_dtype(fed[index].dtype)
            values.append(helper.make_tensor_value_info(name, kind, fed[index].shape))
        elif name:
            stored.append(numpy_helper.from_array(np.asarray(array), name))
    node = helper.make_node(operator, names, ["y"], name="node", domain=domain, **attributes)
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", out, None)], stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    return model, {f"i{index}": array for index, array in fed.items()}


def rewritten(model: ir.Model) -> tuple[ir.Model, PassReport]:
    """The model as the pass leaves it, and its report."""
    copy = model.clone()
    name_everything(copy)
    infer_shapes(copy)
    report = make_pass("fuse-qdq", {})(copy).report  # type: ignore[attr-defined]
    return copy, report


def require_equal_steps(model: ir.Model, feeds: dict[str, Array], *operators: str, steps: int = 1) -> None:
    """The rewritten model has `operators` among its own, none of them onnxruntime's, and the same result."""
    expected = run_onnx(model, feeds)[0]
    converted, report = rewritten(model)
    assert not report.refused, report.refused
    found = [node.op_type for node in converted.graph]
    assert not {node.domain for node in converted.graph} - {"", "ai.onnx"}
    assert set(operators) <= set(found), found
    assert not any(name.startswith("QLinear") for name in found)
    onnx.checker.check_model(ir.to_proto(converted))
    got = run_onnx(converted, feeds)[0]
    assert got.dtype == expected.dtype
    if got.dtype.kind == "f":
        assert np.abs(got - expected).max() <= 2e-5 * np.ptp(expected)
    else:
        assert np.abs(got.astype(int) - expected.astype(int)).max() <= steps


S, Z = np.float32, np.uint8
Q3, Q4 = (S(0.03), Z(120)), (S(0.04), Z(131))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions_keep_their_result(per_channel: bool, bias: bool) -> None:
    x = integers(1, 4, 8, 8)
    scale = RNG(2).random(6, np.float32) * S(0.02) + S(0.001) if per_channel else S(0.01)
    zero = np.zeros(6 if per_channel else (), np.int8)
    w = integers(6, 4, 3, 3, dtype="int8", seed=1)
    b = [RNG(3).integers(-5000, 5000, 6, np.int32)] if bias else []
    inputs = [None, *Q3, w, scale, zero, S(0.3), Z(99), *b]
    for domain in ("", "com.microsoft"):
        if domain == "":
            model, feeds = build(
                "QLinearConv", inputs, {0: x}, domain=domain, pads=[1, 1, 1, 1], strides=[2, 2]
            )
            require_equal_steps(model, feeds, "Conv", "QuantizeLinear")


def test_a_convolution_whose_channels_come_last_is_refused() -> None:
    inputs = [None, *Q3, integers(6, 4, 1, 1, dtype="int8"), S(0.01), np.int8(0), S(0.3), Z(99)]
    model, _ = build("QLinearConv", inputs, {0: integers(1, 8, 8, 4)}, channels_last=1)
    converted, report = rewritten(model)
    assert "channels come last" in report.refused[0].reason
    assert [node.op_type for node in converted.graph] == ["QLinearConv"]
    assert set(converted.graph.initializers) == set(model.graph.initializers)


@pytest.mark.parametrize("columns", [False, True])
def test_products_keep_their_result(columns: bool) -> None:
    scale = RNG(2).random(7, np.float32) * S(0.02) + S(0.001) if columns else S(0.01)
    zero = integers(7, dtype="int8", seed=4) // 8 if columns else np.int8(3)
    inputs = [None, *Q3, integers(9, 7, dtype="int8", seed=1), scale, zero, S(0.3), Z(99)]
    model, feeds = build("QLinearMatMul", inputs, {0: integers(2, 5, 9)}, domain="")
    require_equal_steps(model, feeds, "MatMul", "QuantizeLinear")


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("quantized", [False, True])
def test_gemm_keeps_its_result(turned: int, quantized: bool) -> None:
    b = integers(*((7, 9) if turned else (9, 7)), dtype="int8", seed=1)
    scale, zero = RNG(2).random(7, np.float32) * S(0.02) + S(0.001), np.zeros(7, np.int8)
    last = [S(0.3), Z(99)] if quantized else []
    inputs = [None, *Q3, b, scale, zero, RNG(3).integers(-900, 900, 7, np.int32), *last]
    kind = TensorProto.UINT8 if quantized else TensorProto.FLOAT
    model, feeds = build("QGemm", inputs, {0: integers(5, 9)}, out=kind, transB=turned, alpha=1.0)
    require_equal_steps(model, feeds, "Gemm")


@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_sums_and_products_of_elements_keep_their_result(operator: str, dtype: str) -> None:
    a, b = integers(2, 3, 5, dtype=dtype), integers(3, 1, dtype=dtype, seed=1)
    zero = np.dtype(dtype).type(7)
    inputs = [None, S(0.03), zero, None, S(0.05), zero, S(0.08), zero]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model, feeds = build(operator, inputs, {0: a, 3: b}, out=kind)
    require_equal_steps(model, feeds, operator.removeprefix("QLinear"))


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("QLinearSigmoid", {}),
        ("QLinearLeakyRelu", {"alpha": 0.3}),
        ("QLinearSoftmax", {"axis": -1, "opset": 13}),
        ("QLinearGlobalAveragePool", {}),
        ("QLinearAveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ],
)
def test_operators_of_one_value_keep_their_result(operator: str, attributes: dict[str, Any]) -> None:
    scale = S(1 / 256) if "Soft" in operator or "Sigm" in operator else S(0.025)
    inputs = [None, *Q3, scale, Z(0 if "Soft" in operator or "Sigm" in operator else 120)]
    model, feeds = build(operator, inputs, {0: integers(1, 3, 7, 7)}, **attributes)
    require_equal_steps(model, feeds, operator.removeprefix("QLinear"))


def test_a_mean_that_onnxruntime_has_no_kernel_for_is_that_of_the_definition() -> None:
    inputs = [None, S(0.03), Z(120), S(0.025), Z(120)]
    model, feeds = build("QLinearReduceMean", inputs, {0: integers(2, 3, 5)}, axes=[2], keepdims=0)
    mean = ((feeds["i0"] - 120.0) * 0.03).mean(2)
    got = run_onnx(rewritten(model)[0], feeds)[0]
    assert np.abs(got - np.clip(np.rint(mean / 0.025) + 120, 0, 255)).max() <= 1


def test_where_and_concat_keep_their_result() -> None:
    choice = RNG(5).random((3, 4)) < 0.5
    inputs = [None, None, *Q3, None, *Q4, S(0.05), Z(100)]
    model, feeds = build("QLinearWhere", inputs, {0: choice, 1: integers(3, 4), 4: integers(1, 4, seed=1)})
    require_equal_steps(model, feeds, "Where")
    inputs = [S(0.05), Z(100), None, *Q3, None, *Q4]
    model, feeds = build("QLinearConcat", inputs, {2: integers(3, 4), 5: integers(2, 4, seed=1)}, axis=0)
    require_equal_steps(model, feeds, "Concat")


@pytest.mark.parametrize("with_zero", [False, True])
def test_integer_products_keep_their_result(with_zero: bool) -> None:
    b, scale = integers(9, 7, dtype="int8"), RNG(2).random(7, np.float32) * S(0.02)
    zero = integers(7, dtype="int8", seed=8) if with_zero else None
    x = RNG(1).standard_normal((5, 9), np.float32)
    bias = RNG(3).standard_normal(7, np.float32)
    model, feeds = build("DynamicQuantizeMatMul", [None, b, scale, zero, bias], {0: x}, out=TensorProto.FLOAT)
    require_equal_steps(model, feeds, "DynamicQuantizeLinear", "MatMulInteger")
    inputs = [None, b, S(0.03), scale, Z(100), zero, bias]
    model, feeds = build("MatMulIntegerToFloat", inputs, {0: integers(5, 9)}, out=TensorProto.FLOAT)
    require_equal_steps(model, feeds, "MatMulInteger")


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int8"])
def test_onnxruntimes_own_q_and_dq_become_the_standard_ones(dtype: str) -> None:
    x = RNG(1).standard_normal((5, 9), np.float32)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model, feeds = build("QuantizeLinear", [None, S(0.01), np.dtype(dtype).type(9)], {0: x}, out=kind)
    require_equal_steps(model, feeds, "QuantizeLinear", steps=0)
    inputs = [None, RNG(2).random(9, np.float32), np.zeros(9, dtype)]
    fed = {0: integers(5, 9, dtype=dtype)}
    model, feeds = build("DequantizeLinear", inputs, fed, out=TensorProto.FLOAT, axis=-1)
    require_equal_steps(model, feeds, "DequantizeLinear")


@pytest.mark.parametrize(
    ("bits", "zeros"),
    [(4, "none"), (4, "packed"), (4, "float"), (8, "none"), (8, "packed"), (2, "none"), (2, "packed")],
)
@pytest.mark.parametrize("depth", [64, 70])
def test_products_with_blocks_of_few_bits_keep_their_result(bits: int, zeros: str, depth: int) -> None:
    rows, block = 6, 16
    blocks = -(-depth // block)
    width = -(-blocks * bits // 8)
    b = integers(rows, blocks, block * bits // 8)
    scale = RNG(2).random((rows, blocks), np.float32) * S(0.02)
    packed = integers(rows, width, seed=3)
    whole = integers(rows, blocks, seed=4) >> (8 - bits)
    zero = {"none": None, "packed": packed, "float": whole.astype(np.float32)}[zeros]
    bias = RNG(3).standard_normal(rows, np.float32)
    x = RNG(1).standard_normal((5, depth), np.float32)
    attributes: dict[str, Any] = {"N": rows, "K": depth, "bits": bits, "block_size": block}
    inputs = [None, b, scale, zero, None, bias]
    model, feeds = build("MatMulNBits", inputs, {0: x}, out=TensorProto.FLOAT, **attributes)
    if bits != 2:
        require_equal_steps(model, feeds, "DequantizeLinear", "MatMul")
        return
    converted, _ = rewritten(model)
    assert [node.op_type for node in converted.graph] == ["GroupIntDecode", "Transpose", "MatMul", "Add"]
    (expected,), (got,) = run_onnx(model, feeds), run_onnx(converted, feeds)
    assert np.abs(got - expected).max() <= 2e-5 * np.ptp(expected)
