"""Sparse and dense matrix kernels on every tail, here and in WebAssembly, with and without threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer.kernels.building import build_artifact
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.program import Program
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.passes.reference import run_onnx
from gossamer.runtime.feeds import random_feeds
from gossamer.runtime.session import InferenceSession

from ...tolerances import require_agreement

Array = np.ndarray[Any, np.dtype[Any]]

# (output channels, input channels, height, width, kernel, stride, batch)
CONVOLUTIONS = [
    (8, 8, 7, 7, 1, 1, 1),
    (7, 9, 8, 9, 1, 1, 1),
    (33, 31, 14, 14, 1, 1, 1),
    (6, 5, 1, 127, 1, 1, 1),
    (16, 12, 9, 31, 3, 1, 1),
    (17, 3, 32, 33, 3, 2, 1),
    (8, 8, 7, 7, 3, 1, 2),
    (1, 4, 12, 13, 5, 1, 1),
]
# (rows, depth, columns)
PRODUCTS = [(1, 32, 31), (2, 9, 8), (5, 33, 7), (32, 31, 33), (127, 16, 12), (8, 1, 1)]


def blocks(rng: np.random.Generator, rows: int, columns: int, height: int, sparsity: float) -> Array:
    """(rows, columns) float32 whose zeros come in blocks of `height` rows."""
    kept = rng.random((-(-rows // height), columns)) >= sparsity
    mask = np.repeat(kept, height, axis=0)[:rows]
    return (rng.standard_normal((rows, columns)) * mask).astype(np.float32)


def model_of(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], weights: dict[str, Array]
) -> bytes:
    ins = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    constants = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "tails", ins, outs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


def tails(height: int, sparsity: float) -> bytes:
    """One model with every shape of the tables, weights in blocks of `height` outputs."""
    rng = np.random.default_rng(height * 100 + int(sparsity * 100))
    nodes: list[Any] = []
    inputs: dict[str, tuple[int, ...]] = {}
    outputs: list[str] = []
    weights: dict[str, Array] = {}
    for i, (m, c, h, w, k, stride, n) in enumerate(CONVOLUTIONS):
        inputs[f"image{i}"] = (n, c, h, w)
        weights[f"cw{i}"] = blocks(rng, m, c * k * k, height, sparsity).reshape(m, c, k, k)
        weights[f"cb{i}"] = rng.standard_normal(m).astype(np.float32)
        attributes: dict[str, Any] = {"pads": [k // 2] * 4, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", [f"image{i}", f"cw{i}", f"cb{i}"], [f"c{i}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"conv{i}"]))
        outputs.append(f"conv{i}")
    for i, (m, k, n) in enumerate(PRODUCTS):
        inputs[f"left{i}"] = (m, k)
        weights[f"gw{i}"] = blocks(rng, n, k, height, sparsity)
        weights[f"gb{i}"] = rng.standard_normal(n).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [f"left{i}", f"gw{i}", f"gb{i}"], [f"gemm{i}"], transB=1))
        outputs.append(f"gemm{i}")
    return model_of(nodes, inputs, outputs, weights)


def build(model: bytes, target_name: str, folder: Path) -> tuple[Program, Path]:
    target = find_target(target_name)
    program = lower(prepare(load_model(model)), target)
    return program, build_artifact(program, emit_objects(program, target), target, folder)


def agree(model: bytes, session: InferenceSession, program: Program) -> None:
    feeds = random_feeds(program.inputs)
    expected = run_onnx(load_model(model), feeds)
    for value, want, got in zip(program.outputs, expected, session.run(None, feeds), strict=True):
        require_agreement(got, want, value.name)


@pytest.mark.parametrize(
    ("height", "sparsity"), [(1, 0.0), (1, 0.8), (2, 0.7), (4, 0.5), (4, 1.0), (8, 0.9), (16, 0.9)]
)
def test_every_tail_agrees_with_onnxruntime_on_this_machine(
    height: int, sparsity: float, tmp_path: Path
) -> None:
    model = tails(height, sparsity)
    program, folder = build(model, "host", tmp_path / "artifact")
    with InferenceSession(folder) as session:
        agree(model, session, program)
    with InferenceSession(folder, threads=3) as session:
        agree(model, session, program)


@pytest.mark.parametrize("engine", ["simd", "relaxed"])
def test_every_tail_agrees_with_onnxruntime_in_webassembly(engine: str, tmp_path: Path) -> None:
    pytest.importorskip("wasmtime")
    model = tails(4, 0.8)
    program, folder = build(model, "wasm", tmp_path / "artifact")
    with InferenceSession(folder, engine=engine) as session:
        agree(model, session, program)


def test_a_sparse_kernel_is_chosen_only_where_zeros_pay(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    target = find_target("host")
    found = {}
    for name, height, sparsity in (("blocks", 4, 0.8), ("scattered", 1, 0.3), ("full", 1, 0.0)):
        weights = {"w": blocks(rng, 64, 64, height, sparsity).reshape(64, 64, 1, 1)}
        node = helper.make_node("Conv", ["x", "w"], ["y"], name=name)
        model = model_of([node], {"x": (1, 64, 14, 14)}, ["y"], weights)
        (layer,) = lower(prepare(load_model(model)), target).layers
        found[name] = layer.kernel
        assert layer.reason
    assert found["blocks"].startswith("sparse")
    assert not found["scattered"].startswith("sparse")
    assert not found["full"].startswith("sparse")
