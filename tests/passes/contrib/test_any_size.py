"""Expanded operators keep sizes that have names: compiled once, they give onnxruntime's results at any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import gossamer

from .expanding import Array, run

Sizes = Sequence[int | str]


def model(node: onnx.NodeProto, inputs: dict[str, Sizes], outputs: dict[str, Sizes], **weights: Array) -> Any:
    def described(name: str, sizes: Sizes) -> onnx.ValueInfoProto:
        kind = TensorProto.INT32 if name.startswith("int") else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, sizes)

    given = [[described(n, s) for n, s in values.items()] for values in (inputs, outputs)]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([node], "any_size", given[0], given[1], constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def agrees(made: onnx.ModelProto, feeds: Sequence[dict[str, Array]], folder: Path) -> None:
    with gossamer.compile(made, out=folder / "artifact", verify=False).session() as session:
        for feed in feeds:
            for wanted, got in zip(run(made, feed), session.run(None, feed), strict=True):
                assert wanted.shape == got.shape
                np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-6)


def normal(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def test_attention_with_a_mask(tmp_path: Path) -> None:
    options: dict[str, Any] = {"domain": "com.microsoft", "num_heads": 2, "unidirectional": 1}
    node = helper.make_node("MultiHeadAttention", ["x", "x", "x", "", "int_mask"], ["y"], **options)
    made = model(node, {"x": ["b", "s", 8], "int_mask": ["b", "s"]}, {"y": ["b", "s", 8]})
    feeds = []
    for b, s in ((1, 5), (2, 17)):
        mask = (np.arange(s) < s - 2).astype(np.int32) * np.ones((b, 1), np.int32)
        feeds.append({"x": normal(b, s, 8), "int_mask": mask})
    agrees(made, feeds, tmp_path)


def test_grouped_heads_with_a_cache_that_grows(tmp_path: Path) -> None:
    names = ["q", "k", "v", "past_k", "past_v", "int_ends", "int_total", "cos", "sin"]
    options: dict[str, Any] = {"domain": "com.microsoft", "num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}
    node = helper.make_node("GroupQueryAttention", names, ["y", "next_k", "next_v"], **options)
    cache: Sizes = ["b", 2, "p", 16]
    inputs: dict[str, Sizes] = {"q": ["b", "s", 64], "k": ["b", "s", 32], "v": ["b", "s", 32]}
    inputs |= {"past_k": cache, "past_v": cache, "int_ends": ["b"], "int_total": []}
    kept: Sizes = ["b", 2, "t", 16]
    outputs: dict[str, Sizes] = {"y": ["b", "s", 64], "next_k": kept, "next_v": kept}
    made = model(node, inputs, outputs, cos=normal(32, 8), sin=normal(32, 8))
    feeds = []
    for b, s, p in ((1, 1, 5), (2, 1, 9), (1, 3, 4)):
        feed = {"q": normal(b, s, 64), "k": normal(b, s, 32), "v": normal(b, s, 32)}
        feed |= {"past_k": normal(b, 2, p, 16), "past_v": normal(b, 2, p, 16)}
        feed |= {"int_ends": np.full(b, p + s - 1, np.int32), "int_total": np.array(p + s, np.int32)}
        feeds.append(feed)
    agrees(made, feeds, tmp_path)
