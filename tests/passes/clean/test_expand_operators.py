"""Operators without a kernel become others, and compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from gossamer.passes.clean.expand_operators import ExpandOperators
from gossamer.passes.shapes import infer_shapes

EQUATIONS = {
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "bhqd,bkhd->bhqk": [(2, 3, 4, 5), (2, 6, 3, 5)],
    "abc,cd,def->abef": [(2, 3, 4), (4, 5), (5, 2, 3)],
    "...ij,...jk->...ik": [(2, 1, 3, 4), (5, 4, 2)],
    "ii->i": [(4, 4)],
    "iij->j": [(3, 3, 2)],
    "ij,kl->": [(2, 3), (4, 5)],
    "ba": [(2, 3)],
}


def _model(node: onnx.NodeProto, shapes: list[tuple[int, ...]]) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in zip(node.input, shapes, strict=True)
    ]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_becomes_products_that_numpy_agrees_with(equation: str) -> None:
    shapes: Any = EQUATIONS[equation]
    names = [f"x{i}" for i in range(len(shapes))]
    model = ir.from_proto(_model(helper.make_node("Einsum", names, ["y"], equation=equation), shapes))
    infer_shapes(model)
    assert ExpandOperators()(model).modified
    assert "Einsum" not in {node.op_type for node in model.graph}
    generator = np.random.default_rng(0)
    feeds = {n: generator.standard_normal(s).astype(np.float32) for n, s in zip(names, shapes, strict=True)}
    got: Any
    (got,) = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    np.testing.assert_allclose(got, np.einsum(equation, *feeds.values()), rtol=1e-5, atol=1e-5)


def test_an_operator_with_a_kernel_stays() -> None:
    model = ir.from_proto(_model(helper.make_node("Relu", ["x"], ["y"]), [(2, 3)]))
    infer_shapes(model)
    assert not ExpandOperators()(model).modified
