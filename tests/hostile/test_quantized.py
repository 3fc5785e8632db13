"""Scales and zero points that make no sense: an error that names the node, and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gossamer
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.runtime.errors import ModelError

S, U, B = np.float32, np.uint8, np.int8
GOOD: dict[str, Any] = {"s": S(0.5), "z": U(3), "b": np.arange(4, dtype=np.int32), "t": np.ones(4, S)}


def model(nodes: str, **stored: Any) -> onnx.ModelProto:
    head = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>'
    text = f"{head} g (float[2, 4] x) => (float[2, 4] y) {{ {nodes} }}"
    proto = onnx.parser.parse_model(text)
    used = {name for node in proto.graph.node for name in node.input}
    for name, array in (GOOD | stored).items():
        if name in used:
            kept = (
                array
                if isinstance(array, onnx.TensorProto)
                else numpy_helper.from_array(np.asarray(array), name)
            )
            kept.name = name
            proto.graph.initializer.append(kept)
    return proto


PAIR = "[first] q = QuantizeLinear (x, s, z)  [second] y = DequantizeLinear (q, s, z)"
ROWS = "[first] q = QuantizeLinear <axis = {axis}> (x, s, z)  "
ROWS += "[second] y = DequantizeLinear <axis = {axis}> (q, s, z)"
BLOCKS = "[first] w = DequantizeLinear <axis = 1, block_size = {block}> (v, s, z)  y = Add (x, w)"


@pytest.mark.parametrize("scale", [0.0, -0.5, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("several", [False, True])
def test_scales_that_are_not_positive_are_refused(scale: float, several: bool) -> None:
    scales = np.array([0.5, 0.5, scale, 0.5], S) if several else S(scale)
    zeros = np.zeros(4, U) if several else U(0)
    refused(model(ROWS.format(axis=1), s=scales, z=zeros), "first", "positive numbers", str(S(scale)))


@pytest.mark.parametrize(
    ("stored", "axis", "expected", "got"),
    [
        ({"s": np.ones(3, S), "z": np.zeros(3, U)}, 1, "shape [4] for axis 1", "[3]"),
        ({"s": np.ones(4, S), "z": np.zeros(4, U)}, 0, "shape [2] for axis 0", "[4]"),
        ({"s": np.ones((2, 2), S), "z": np.zeros((2, 2), U)}, 1, "shape [4] for axis 1", "[2, 2]"),
        ({"s": np.ones(4, S), "z": np.zeros(4, U)}, 2, "-2..1", "2"),
        ({"s": np.ones(4, S), "z": np.zeros(4, U)}, -3, "-2..1", "-3"),
        ({"s": np.ones(4, S), "z": np.zeros(3, U)}, 1, "[4]", "[3]"),
        ({"s": np.ones(4, S), "z": U(0)}, 1, "[4]", "[]"),
        ({"s": np.ones(0, S), "z": np.zeros(0, U)}, 1, "[4]", "[0]"),
    ],
)
def test_scales_that_do_not_fit_their_axis_are_refused(
    stored: dict[str, Any], axis: int, expected: str, got: str
) -> None:
    refused(model(ROWS.format(axis=axis), **stored), "first", expected, got)


def test_zero_points_of_another_type_are_refused() -> None:
    nodes = PAIR.replace("(q, s, z)", "(q, s, o)")
    refused(model(nodes, o=B(3)), "second", "UINT8", "INT8")
    stated = PAIR.replace("QuantizeLinear (x", f"QuantizeLinear <output_dtype = {TensorProto.INT8}> (x", 1)
    refused(model(stated), "first", "INT8", "UINT8")


def test_a_bias_in_int32_takes_no_zero_point() -> None:
    nodes = "[bias] c = DequantizeLinear <axis = 0> (b, t, o)  y = Add (x, c)"
    refused(model(nodes, o=np.array([0, 0, 7, 0], np.int32)), "bias", "0", "7")
    load_and_prepare(model(nodes, o=np.zeros(4, np.int32)))


@pytest.mark.parametrize(
    ("shape", "block", "expected"),
    [
        ((2, 3), 2, "shape [2, 2]"),
        ((1, 2), 2, "shape [2, 2]"),
        ((2, 1), 3, "shape [2, 2]"),
        ((2,), 2, "shape [2, 2]"),
        ((), 2, "shape [2, 2]"),
        ((2, 2), -2, "0 or more"),
    ],
)
def test_blocks_that_do_not_fit_their_weight_are_refused(
    shape: tuple[int, ...], block: int, expected: str
) -> None:
    stored = {"v": np.zeros((2, 4), U), "s": np.ones(shape, S), "z": np.zeros(shape, U)}
    refused(model(BLOCKS.format(block=block), **stored), "first", expected)


def test_scales_of_blocks_may_be_zero_or_negative_but_not_infinite() -> None:
    stored = {"v": np.zeros((2, 4), U), "z": np.zeros((2, 2), U)}
    load_and_prepare(model(BLOCKS.format(block=2), s=np.array([[0, -1], [1, 1]], S), **stored))
    refused(
        model(BLOCKS.format(block=2), s=np.array([[0, np.nan], [1, 1]], S), **stored),
        "first",
        "finite",
        "nan",
    )


def test_scales_in_a_constant_node_are_checked_too() -> None:
    nodes = f"c = Constant <value = float {{-1.0}}> ()  {PAIR.replace(', s,', ', c,')}"
    refused(model(nodes), "first", "positive", "-1.0")


QLINEAR = "q = QuantizeLinear (x, s, z)  [product] p = {call}  y = DequantizeLinear (p, s, z)"


@pytest.mark.parametrize(
    ("call", "stored", "expected"),
    [
        ("com.microsoft.QLinearAdd (q, s, z, q)", {}, "an input at index 4"),
        ("com.microsoft.QLinearAdd (q, s, z, q, s, z)", {}, "an input at index 6"),
        ("com.microsoft.QLinearAdd (q, s, z, q, o, z, s, z)", {"o": S(-2)}, "positive"),
        ("com.microsoft.QLinearMul (q, s, o, q, s, z, s, z)", {"o": B(1)}, "UINT8"),
        ("com.microsoft.QLinearSigmoid (q, , z, s, z)", {}, "an input at index 1"),
        ("com.microsoft.QLinearConcat <axis = 0> (s, z, q, s)", {}, "an input at index 4"),
        (
            "QLinearMatMul (q, s, z, w, o, v, s, z)",
            {"o": np.ones(3, S), "v": np.zeros(3, U)},
            "shape [4] for axis 1",
        ),
    ],
)
def test_operators_of_quantised_values_are_checked(call: str, stored: dict[str, Any], expected: str) -> None:
    weights = {"w": np.ones((4, 4), U)} | stored
    refused(model(QLINEAR.format(call=call), **weights), "product", expected)


@pytest.mark.parametrize(
    ("stored", "attributes", "expected"),
    [
        ({}, {"K": -4}, "a positive size"),
        ({}, {"block_size": 0}, "a positive size"),
        ({"w": np.zeros((3, 1, 7), U)}, {}, "24 elements"),
        ({"s": np.ones(2, S)}, {}, "3 elements"),
        ({"z": np.ones(2, U)}, {}, "3 elements"),
        ({"w": np.zeros((3, 1, 8), np.float32)}, {}, "uint8"),
    ],
)
def test_weights_in_blocks_of_bits_are_checked(
    stored: dict[str, Any], attributes: dict[str, int], expected: str
) -> None:
    arrays: dict[str, Any] = {"w": np.zeros((3, 1, 8), U), "s": np.ones(3, S), "z": np.zeros(3, U)} | stored
    given: dict[str, Any] = {"K": 4, "N": 3, "bits": 4, "block_size": 16} | attributes
    node = helper.make_node("MatMulNBits", ["x", *arrays], ["y"], "product", domain="com.microsoft", **given)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    refused(helper.make_model(graph, opset_imports=opsets, ir_version=10), "product", expected)


def test_converting_refuses_as_compiling_does() -> None:
    with pytest.raises(ModelError, match=r"'first'.*positive"):
        gossamer.convert(model(PAIR, s=S(-1)), verify=False)
    with pytest.raises(ModelError, match=r"'first'.*positive"):
        gossamer.compile(model(PAIR, s=S(-1)), verify=False)


def load_and_prepare(proto: onnx.ModelProto) -> None:
    prepare(load_model(proto))


def refused(proto: onnx.ModelProto, node: str, *parts: str) -> None:
    """One line that names the node, what was expected and what it is."""
    with pytest.raises(ModelError) as caught:
        load_and_prepare(proto)
    text = str(caught.value)
    assert "\n" not in text
    assert f"node '{node}'" in text
    assert all(part in text for part in ("expected", "got", *parts)), text
