"""Chains of sparse products with epilogues, in both layouts, against onnxruntime on every tail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from gossamer.runtime.session import InferenceSession

from .test_sparse_kernels import Array, agree, blocks, build, model_of

SIZES = [
    (1, 32, 31, 16),
    (2, 9, 8, 40),
    (5, 33, 7, 33),
    (32, 31, 33, 16),
    (37, 16, 12, 70),
    (130, 64, 96, 48),
]
"""Rows, inputs, inner features, outputs."""


def chains(height: int, sparsity: float) -> bytes:
    """relu(x · a + p) · b + q + r, its row maximum, and x · a · b: every kind of epilogue and reader."""
    rng = np.random.default_rng(height)
    nodes: list[Any] = []
    inputs: dict[str, tuple[int, ...]] = {}
    outputs: list[str] = []
    weights: dict[str, Array] = {"last": np.array([-1])}
    for i, (rows, depth, inner, columns) in enumerate(SIZES):
        inputs |= {f"x{i}": (1, rows, depth), f"r{i}": (1, rows, columns)}
        weights[f"a{i}"] = blocks(rng, inner, depth, height, sparsity).T / np.float32(depth**0.5)
        weights[f"b{i}"] = blocks(rng, columns, inner, height, sparsity).T / np.float32(inner**0.5)
        weights[f"p{i}"] = rng.standard_normal(inner).astype(np.float32)
        weights[f"q{i}"] = rng.standard_normal(columns).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", [f"x{i}", f"a{i}"], [f"xa{i}"]),
            helper.make_node("Add", [f"xa{i}", f"p{i}"], [f"xap{i}"]),
            helper.make_node("Relu", [f"xap{i}"], [f"h{i}"]),
            helper.make_node("MatMul", [f"h{i}", f"b{i}"], [f"hb{i}"]),
            helper.make_node("Add", [f"hb{i}", f"q{i}"], [f"hbq{i}"]),
            helper.make_node("Add", [f"r{i}", f"hbq{i}"], [f"y{i}"]),
            helper.make_node("ReduceMax", [f"y{i}", "last"], [f"m{i}"]),
            helper.make_node("Softmax", [f"y{i}"], [f"s{i}"], axis=-1),
        ]
        outputs += [f"y{i}", f"m{i}", f"s{i}"]
    model = model_of(nodes, inputs, outputs, weights)
    return model


@pytest.mark.parametrize(("height", "sparsity"), [(1, 0.9), (2, 0.8), (4, 0.5), (4, 1), (8, 0.7), (16, 0.9)])
def test_chains_agree_with_onnxruntime_on_this_machine(height: int, sparsity: float, tmp_path: Path) -> None:
    model = chains(height, sparsity)
    program, folder = build(model, "host", tmp_path / "artifact")
    assert any(layer.kernel.startswith("sparse") for layer in program.layers)
    for threads in (1, 3):
        with InferenceSession(folder, threads=threads) as session:
            agree(model, session, program)


@pytest.mark.parametrize("engine", ["simd", "relaxed"])
def test_chains_agree_with_onnxruntime_in_webassembly(engine: str, tmp_path: Path) -> None:
    pytest.importorskip("wasmtime")
    model = chains(4, 0.8)
    program, folder = build(model, "wasm", tmp_path / "artifact")
    with InferenceSession(folder, engine=engine) as session:
        agree(model, session, program)
