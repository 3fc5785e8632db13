"""Products with N:M weights against onnxruntime on every tail, here, in WebAssembly and on AArch64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from gossamer.kernels.building import build_artifact
from gossamer.kernels.lowering import emit_objects, lower
from gossamer.kernels.program import Program
from gossamer.kernels.targets import find_target
from gossamer.passes.compress.encode_n_m import EncodeNM
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.passes.reference import run_onnx
from gossamer.runtime.feeds import random_feeds
from gossamer.runtime.session import InferenceSession

from ...tolerances import require_agreement
from ..formats.test_n_m import n_m_weight
from .test_sparse_kernels import Array, model_of

# (rows, inputs, outputs)
PRODUCTS = [
    (1, 64, 48),
    (1, 33, 31),
    (1, 4, 1),
    (1, 128, 130),
    (2, 9, 8),
    (5, 35, 7),
    (7, 70, 65),
    (32, 31, 33),
]
PATTERNS = [(1, 2), (1, 4), (2, 4), (3, 4), (2, 8), (4, 8), (7, 8), (3, 16), (9, 16)]


def products(kept: int, of: int) -> bytes:
    """One model with every size of the table: Gemm with bias and Relu, and MatMul plus its other input."""
    nodes: list[Any] = []
    inputs: dict[str, tuple[int, ...]] = {}
    weights: dict[str, Array] = {}
    for i, (rows, depth, columns) in enumerate(PRODUCTS):
        inputs |= {f"x{i}": (rows, depth), f"r{i}": (rows, columns)}
        weights[f"w{i}"] = n_m_weight(i, (columns, depth), kept, of) / np.float32(depth**0.5)
        weights[f"v{i}"] = np.ascontiguousarray(n_m_weight(i + 50, (columns, depth), kept, of).T)
        weights[f"b{i}"] = np.random.default_rng(i).standard_normal(columns).astype(np.float32)
        nodes += [
            helper.make_node("Gemm", [f"x{i}", f"w{i}", f"b{i}"], [f"g{i}"], transB=1),
            helper.make_node("Relu", [f"g{i}"], [f"relu{i}"]),
            helper.make_node("MatMul", [f"x{i}", f"v{i}"], [f"m{i}"]),
            helper.make_node("Add", [f"m{i}", f"r{i}"], [f"sum{i}"]),
        ]
    outputs = [f"{name}{i}" for i in range(len(PRODUCTS)) for name in ("relu", "sum")]
    return model_of(nodes, inputs, outputs, weights)


def encoded(model: bytes, pattern: str) -> ir.Model:
    """The model with its weights stored as N:M, all but those with fewer inputs than a group."""
    stored = load_model(model)
    EncodeNM(pattern=pattern, min_saving=0)(stored)
    return stored


def build(model: ir.Model, target_name: str, folder: Path) -> tuple[Program, Path]:
    target = find_target(target_name)
    program = lower(prepare(model), target)
    return program, build_artifact(program, emit_objects(program, target), target, folder)


def agree(model: bytes, session: InferenceSession, program: Program) -> list[bytes]:
    """The results, after they were compared with onnxruntime on the model as it was before it was stored."""
    feeds = random_feeds(program.inputs)
    results = session.run(None, feeds)
    for value, want, got in zip(program.outputs, run_onnx(load_model(model), feeds), results, strict=True):
        require_agreement(got, want, value.name)
    return [result.tobytes() for result in results]


@pytest.mark.parametrize(("kept", "of"), PATTERNS)
def test_products_agree_with_onnxruntime_on_this_machine(kept: int, of: int, tmp_path: Path) -> None:
    model = products(kept, of)
    program, folder = build(encoded(model, f"{kept}:{of}"), "host", tmp_path / "artifact")
    found = []
    for threads in (1, 3):
        with InferenceSession(folder, threads=threads) as session:
            found.append(agree(model, session, program))
    assert found[0] == found[1]
