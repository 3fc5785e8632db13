"""Quantised images that are resized, padded and cut between convolutions: as onnxruntime has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer.runtime.session import InferenceSession

from .test_sparse_kernels import build

SCALE, ZERO = 0.03, 100
SHAPE = (1, 5, 9, 11)


class Graph:
    """A graph under construction; `constants` are added as they are needed."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        node = helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def rounded(self, value: str) -> str:
        """Through uint8 and back."""
        scale, zero = self.constant(np.float32(SCALE)), self.constant(np.uint8(ZERO))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", value, scale, zero), scale, zero)

    def convolved(self, value: str, outputs: int, inputs: int) -> str:
        """By a 1×1 convolution of int8 weights, rounded."""
        weights = np.random.default_rng(outputs).integers(-127, 128, (outputs, inputs, 1, 1), np.int8)
        scale = np.full(outputs, 0.02 / inputs, np.float32)
        stored = [self.constant(a) for a in (weights, scale, np.zeros(outputs, np.int8))]
        return self.rounded(self.add("Conv", value, self.add("DequantizeLinear", *stored, axis=0)))

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "images",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 21)]
        return onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=opsets, ir_version=10)
        )


def moved_images(channels: int) -> onnx.ModelProto:
    graph = Graph()
    image = graph.convolved(graph.rounded("x"), channels, SHAPE[1])
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    nearest = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    large = graph.rounded(graph.add("Resize", image, "", scales, **nearest))
    smooth = graph.rounded(graph.add("Resize", image, "", scales, mode="linear"))
    pads, fill = np.array([0, 0, 1, 2, 0, 0, 3, 1], np.int64), np.float32(0)
    padded = graph.rounded(graph.add("Pad", image, graph.constant(pads), graph.constant(fill)))
    bounds = [graph.constant(np.array(v, np.int64)) for v in ([1, 2], [channels, 7], [1, 2])]
    cut = graph.rounded(graph.add("Slice", image, *bounds)) if channels > 1 else image
    outputs = [
        graph.convolved(large, 7, channels),
        smooth,
        graph.add("MaxPool", padded, kernel_shape=[2, 2], strides=[2, 2]),
        graph.add("Relu", cut),
        graph.rounded(graph.add("Concat", large, smooth, axis=1)),
    ]
    return graph.model(outputs)


@pytest.mark.parametrize("channels", [1, 3, 17, 24])
def test_moved_images_differ_by_a_step_at_most(channels: int, tmp_path: Path) -> None:
    model = moved_images(channels)
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = onnxruntime.InferenceSession(model.SerializeToString(), options)
    expected = reference.run(None, {"x": x})
    _, artifact = build(model.SerializeToString(), "host", tmp_path / "artifact")
    got = InferenceSession(artifact).run(None, {"x": x})
    for wanted, found in zip(expected, got, strict=True):
        difference = np.abs(wanted - found)
        assert difference.max() <= 1.001 * SCALE
        # interpolation weighs by quarters along both axes, so one result in 16 lies between two integers
        assert np.count_nonzero(difference > SCALE / 2) <= difference.size / 16
