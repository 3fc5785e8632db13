"""What a step does in a model that is quantised when it runs, and whose inputs are no floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from gossamer.passes.quantized.steps import step_effects


def embedded(folder: Path) -> onnx.ModelProto:
    """Two products of embeddings."""
    rng = np.random.default_rng(0)
    shapes = {"table": (20, 32), "a": (32, 64), "b": (64, 8)}
    constants = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], name="gather"),
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Tanh", ["h"], ["t"], name="tanh"),
        helper.make_node("MatMul", ["t", "b"], ["y"], name="second"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, (9,))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (9, 8))
    graph = helper.make_graph(nodes, "embedded", [ids], [y], constants)
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "float.onnx")
    quantize_dynamic(
        folder / "float.onnx",
        folder / "dynamic.onnx",
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
    )
    return onnx.load(folder / "dynamic.onnx")


def test_steps_of_dynamic_integers_move_outputs_by_some_thousandths(tmp_path: Path) -> None:
    (effect,) = step_effects(embedded(tmp_path), {"ids": np.arange(9, dtype=np.int64)})
    assert 1e-4 < effect < 5e-2
