"""16-bit floats around operators that compute float32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare


def prepared(kind: int) -> ir.Model:
    """Relu(x · w) + x of a 16-bit type."""
    weight = helper.make_tensor("w", kind, [4, 4], np.eye(4).reshape(-1).tolist())
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["p"]),
            helper.make_node("Relu", ["p"], ["r"]),
            helper.make_node("Add", ["r", "x"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", kind, [2, 4])],
        [helper.make_tensor_value_info("y", kind, [2, 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return prepare(load_model(model))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_a_chain_is_computed_in_float32_and_rounded_once(kind: int) -> None:
    model = prepared(kind)
    found = [node.op_type for node in model.graph]
    assert found == ["Cast", "MatMul", "Relu", "Add", "Cast"]
    assert all(node.outputs[0].dtype == ir.DataType.FLOAT for node in list(model.graph)[:-1])
    assert int(model.graph.outputs[0].dtype or 0) == kind


def test_constants_are_stored_in_float32() -> None:
    (weight,) = prepared(TensorProto.FLOAT16).graph.initializers.values()
    assert weight.const_value is not None
    assert np.array_equal(weight.const_value.numpy(), np.eye(4, dtype=np.float32))


def test_movements_keep_the_type() -> None:
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [8])],
        [numpy_helper.from_array(np.array([8], np.int64), "shape")],
    )
    model = prepare(load_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])))
    assert [node.op_type for node in model.graph] == ["Reshape"]
