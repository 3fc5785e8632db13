"""Models of a single layer, for what a kernel gains on its own: `linear-4096` and the like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["SINGLE_LAYERS", "write_single_layer"]

SINGLE_LAYERS: Mapping[str, tuple[int, int]] = {
    "linear-4096": (1, 4096),  # one token of a language model: bound by memory
    "linear-4096-rows-128": (128, 4096),  # a prompt: bound by arithmetic
}
"""Rows of activations and features of `x [rows, features] times w [features, features]`, by name."""


def write_single_layer(name: str, path: Path) -> None:
    """Write the ONNX file of SINGLE_LAYERS[name]; weights are normally distributed, always the same."""
    import onnx

    rows, features = SINGLE_LAYERS[name]
    weight = np.random.default_rng(0).normal(0, features**-0.5, (features, features)).astype(np.float32)
    shape = [rows, features]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="layer")],
        name.replace("-", "_"),
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
