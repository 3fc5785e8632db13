"""Tables of functions of one byte equal what onnxruntime computes for each byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer.kernels.byte_functions import FUNCTIONS
from gossamer.kernels.cpu.epilogue import Accumulator
from gossamer.kernels.cpu.lazy import Elementwise, Fill, Lazy
from gossamer.kernels.lowering.byte_tables import byte_table, rounded_before

SHAPE = (256,)
OPTIONS: dict[str, dict[str, Any]] = {"LeakyRelu": {"alpha": 0.2}, "Elu": {"alpha": 0.7}}
OF_TWO = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum")
OWN = ("Quantize", "Dequantize", "QuantizeDequantize", "Clip", "Swish")  # no operators of one input
Array = np.ndarray[Any, np.dtype[Any]]


def dequantized(x: Lazy, scale: float, zero: int) -> Elementwise:
    return Elementwise("Dequantize", (x, Fill(scale, "float32"), Fill(zero, x.dtype)), "float32")


def quantized(x: Lazy, scale: float, zero: int, dtype: str = "uint8") -> Elementwise:
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    options = (("high", high), ("low", low))
    return Elementwise("Quantize", (x, Fill(scale, "float32"), Fill(zero, dtype)), dtype, options)


def by_onnxruntime(operator: str, scales: tuple[float, float], zeros: tuple[int, int]) -> Array:
    def constant(name: str, value: float, dtype: str) -> Any:
        return numpy_helper.from_array(np.array(value, dtype), name)

    second = ["c"] if operator in OF_TWO else []
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s0", "z0"], ["f"]),
        helper.make_node(operator, ["f", *second], ["g"], **OPTIONS.get(operator, {})),
        helper.make_node("QuantizeLinear", ["g", "s1", "z1"], ["y"]),
    ]
    constants = [constant(f"s{i}", s, "float32") for i, s in enumerate(scales)]
    constants += [constant(f"z{i}", z, "uint8") for i, z in enumerate(zeros)]
    constants += [constant("c", 1.75, "float32")]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, SHAPE)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {"x": np.arange(256, dtype=np.uint8)})[0]
    return result


@pytest.mark.parametrize("operator", sorted(set(FUNCTIONS) - set(OWN)))
def test_a_table_is_the_operator_between_two_roundings(operator: str) -> None:
    positive = operator in ("Log", "Sqrt", "Reciprocal")
    scales, zeros = (0.043, 0.0113), (0 if positive else 131, 100)
    source = quantized(Accumulator(SHAPE), scales[0], zeros[0])
    x = dequantized(source, scales[0], zeros[0])
    args = (x, Fill(1.75, "float32")) if operator in OF_TWO else (x,)
    y = Elementwise(operator, args, "float32", tuple(sorted(OPTIONS.get(operator, {}).items())))
    table = byte_table(quantized(y, scales[1], zeros[1]), source)
    assert table is not None
    wanted = by_onnxruntime(operator, scales, zeros)
    start = 1 if positive else 0  # infinities are cast as machines like
    difference = np.abs(table.astype(int) - wanted.astype(int))[start:]
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 3


def test_int8_bytes_are_in_the_order_of_unsigned_ones() -> None:
    source = quantized(Accumulator(SHAPE), 0.5, 0, "int8")
    table = byte_table(quantized(dequantized(source, 0.5, 0), 0.5, 3, "int8"), source)
    assert table is not None
    codes = np.arange(256, dtype=np.uint8).view(np.int8)
    np.testing.assert_array_equal(table, np.clip(codes.astype(int) + 3, -128, 127))


def test_everything_behind_the_first_rounding_is_one_function_of_it() -> None:
    first = quantized(Accumulator(SHAPE), 0.04, 128)
    gate = quantized(Elementwise("Sigmoid", (dequantized(first, 0.04, 128),), "float32"), 1 / 256, 0)
    for order in (1, -1):
        factors = (dequantized(first, 0.04, 128), dequantized(gate, 1 / 256, 0))[::order]
        swish = quantized(Elementwise("Mul", factors, "float32"), 0.03, 10)
        assert rounded_before(swish) is first


def test_what_reads_the_sum_beside_its_rounding_is_no_function_of_it() -> None:
    total = Accumulator(SHAPE)
    gate = quantized(Elementwise("Sigmoid", (total,), "float32"), 1 / 256, 0)
    product = Elementwise("Mul", (total, dequantized(gate, 1 / 256, 0)), "float32")
    assert rounded_before(quantized(product, 0.03, 10)) is None
