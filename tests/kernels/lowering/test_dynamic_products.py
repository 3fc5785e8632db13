"""Products whose scales are known at run time only, and of two activations, are computed in integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from gossamer.kernels.building import build_artifact
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.program import Program
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.runtime.session import InferenceSession

Array = np.ndarray[Any, np.dtype[Any]]


def drawn(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def model(nodes: list[Any], shape: tuple[int, ...], constants: dict[str, Array]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "dynamic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def two_layers() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Add", ["h", "bias"], ["i"], name="add"),
        helper.make_node("Relu", ["i"], ["j"], name="relu"),
        helper.make_node("MatMul", ["j", "b"], ["y"], name="second"),
    ]
    return model(nodes, (2, 7, 30), {"a": drawn(30, 21), "bias": drawn(21), "b": drawn(21, 9)})


def image() -> onnx.ModelProto:
    pads: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "a", "bias"], ["h"], name="first", **pads),
        helper.make_node("Relu", ["h"], ["i"], name="relu"),
        helper.make_node("Conv", ["i", "b"], ["y"], name="second", group=6, **pads),
    ]
    return model(nodes, (1, 5, 9, 8), {"a": drawn(6, 5, 3, 3), "bias": drawn(6), "b": drawn(6, 1, 3, 3)})


def quantised(source: onnx.ModelProto, folder: Path, **options: Any) -> onnx.ModelProto:
    onnx.save(source, folder / "float.onnx")
    quantize_dynamic(folder / "float.onnx", folder / "dynamic.onnx", **options)
    return onnx.load(folder / "dynamic.onnx")


def lowered(source: onnx.ModelProto, target: str = "host") -> Program:
    return lower(prepare(load_model(source)), find_target(target))


def families(program: Program) -> set[str]:
    return {step.kernel for step in program.steps}


def require_agreement(source: onnx.ModelProto, x: Array, folder: Path, limit: float) -> None:
    target, program = find_target("host"), lowered(source)
    artifact = build_artifact(program, emit_objects(program, target), target, folder / "artifact")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    expected = onnxruntime.InferenceSession(source.SerializeToString(), options).run(None, {"x": x})[0]
    with InferenceSession(artifact) as session:
        got = session.run(None, {"x": x})[0]
    assert np.abs(got - expected).max() <= limit * np.ptp(expected)


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_layers_agree_with_onnxruntime_and_take_their_epilogue_along(
    per_channel: bool, tmp_path: Path
) -> None:
    found = quantised(two_layers(), tmp_path, per_channel=per_channel, weight_type=QuantType.QInt8)
    program = lowered(found)
    assert "integer-gemm" in families(program)
    assert "reduction" not in families(program)  # plain sums
    (first,) = [layer for layer in program.layers if "first" in layer.name]
    assert {"add", "relu"} <= set(first.fused)
    require_agreement(found, 3 * drawn(2, 7, 30), tmp_path, 1e-2)


def test_dynamic_convolutions_agree_with_onnxruntime(tmp_path: Path) -> None:
    found = quantised(image(), tmp_path, weight_type=QuantType.QUInt8)
    assert {"integer-gemm", "depthwise"} <= families(lowered(found))
    assert "reduction" not in families(lowered(found))
    require_agreement(found, 3 * drawn(1, 5, 9, 8), tmp_path, 1e-2)


@pytest.mark.parametrize("target", ["x86-64-v4", "wasm", "arm64-linux", "armv7-linux"])
def test_two_quantised_activations_are_multiplied_in_integers_everywhere(target: str) -> None:
    parameters: dict[str, Any] = {"scale": np.array(0.02, np.float32), "zero": np.array(77, np.uint8)}
    ends = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *ends], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", *ends], ["d"], name="d"),
        helper.make_node("Transpose", ["d"], ["t"], name="t", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["d", "t"], ["m"], name="m"),
        helper.make_node("QuantizeLinear", ["m", *ends], ["r"], name="r"),
        helper.make_node("DequantizeLinear", ["r", *ends], ["y"], name="y"),
    ]
    program = lowered(model(nodes, (3, 9, 14), parameters), target)
    assert {"pack", "integer-gemm"} <= families(program)
    assert "matmul" not in families(program)
