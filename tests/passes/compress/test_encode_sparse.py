"""Stored sparse, a model gives the very same bits in onnxruntime, and is smaller or left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gossamer.kernels.formats import DOMAIN, find_format
from gossamer.passes.clean import prepare
from gossamer.passes.compress.encode_sparse import EncodeSparse
from gossamer.passes.compress.prune import Prune
from gossamer.passes.loading import load_model
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport

HEAD = '<ir_version: 10, opset_import: ["": 21]>'


def encode(model: ir.Model, **options: Any) -> PassReport:
    report: PassReport = EncodeSparse(**options)(model).report  # type: ignore[attr-defined]
    return report


def calls(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.domain == DOMAIN]


def sparse(rng: np.random.Generator, *shape: int, block: int = 4, sparsity: float = 0.8) -> Any:
    dense = rng.standard_normal(shape, dtype=np.float32)
    blocks = rng.random((-(-shape[0] // block), int(np.prod(shape[1:])))) >= sparsity
    keep = blocks.repeat(block, axis=0)[: shape[0]].reshape(shape)
    return np.where(keep, dense, np.float32(0))


@pytest.mark.parametrize("pattern", ["element", "2x1", "4x1", "8x1", "4x4"])
@pytest.mark.parametrize("sparsity", [0.3, 0.8, 0.97])
def test_the_bits_stay_the_same(cnn: ir.Model, image: dict[str, Any], pattern: str, sparsity: float) -> None:
    model = prepare(cnn)
    Prune(sparsity=sparsity, pattern=pattern, kernels="all", keep_first=False, min_elements=0)(model)
    dense = run_onnx(model, image)
    report = encode(model)
    onnx.checker.check_model(ir.to_proto(model))
    assert len(calls(model)) == len(report.changed) == 4
    assert [a.tobytes() for a in run_onnx(model, image)] == [a.tobytes() for a in dense]


@pytest.mark.parametrize("block", [1, 2, 4, 8])
def test_the_smallest_block_is_found(build: Any, block: int) -> None:
    weight = sparse(np.random.default_rng(block), 64, 64, 1, 1, block=block)
    model = build(
        f"{HEAD} g (float[1, 64, 2, 2] x) => (float[1, 64, 2, 2] y) {{ y = Conv (x, w) }}", {"w": weight}
    )
    report = encode(model)
    assert report.changed[0].detail.startswith(f"{block}x1 blocks")
    stored = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    assert report.changed[0].bytes_after == stored < weight.nbytes


def test_a_chosen_block_is_used(build: Any) -> None:
    weight = sparse(np.random.default_rng(0), 64, 64, 1, 1)
    model = build(
        f"{HEAD} g (float[1, 64, 2, 2] x) => (float[1, 64, 2, 2] y) {{ y = Conv (x, w) }}", {"w": weight}
    )
    encode(model, block="2x2")
    assert list(model.graph.initializers["w.values"].shape or [])[1:] == [2, 2]


def test_dense_weights_stay_dense_and_say_why(cnn: ir.Model) -> None:
    report = encode(cnn)
    reasons = {refusal.node: refusal.reason for refusal in report.refused}
    assert not report.changed
    assert not calls(cnn)
    assert not cnn.functions
    assert reasons["pointwise1"] == "the model is at opset 13, decoding needs 18"
    reasons = {refusal.node: refusal.reason for refusal in encode(prepare(cnn)).refused}
    assert reasons["pointwise1"].startswith("at 0.0% zeros it would take ")


@pytest.mark.parametrize(
    ("body", "weights", "operators"),
    [
        ("y = MatMul (x, w)", {"w": (64, 48)}, ["BlockSparseDecode", "Transpose", "MatMul"]),
        ("y = Gemm <transB = 1> (x, w, b)", {"w": (48, 64), "b": (48,)}, ["BlockSparseDecode", "Gemm"]),
        ("y = Gemm <alpha = 0.5> (x, w)", {"w": (64, 48)}, ["BlockSparseDecode", "Gemm"]),
        ("a = Gemm (x, w)  b = MatMul (x, w)  y = Add (a, b)", {"w": (64, 48)}, None),
        ("a = Gemm (x, w)  b = Gemm (x, w)  y = Add (a, b)", {"w": (64, 48)}, None),
    ],
)
def test_matrices_of_both_orientations(
    build: Any, body: str, weights: dict[str, tuple[int, ...]], operators: list[str] | None
) -> None:
    rng = np.random.default_rng(3)
    arrays = {name: sparse(rng, *shape) for name, shape in weights.items() if len(shape) == 2}
    if weights["w"] == (64, 48):
        arrays["w"] = np.ascontiguousarray(sparse(rng, 48, 64).T)
    arrays |= {name: rng.standard_normal(s, dtype=np.float32) for name, s in weights.items() if len(s) == 1}
    model = build(f"{HEAD} g (float[5, 64] x) => (float[5, 48] y) {{ {body} }}", arrays)
    feeds = {"x": rng.standard_normal((5, 64), dtype=np.float32)}
    dense = run_onnx(model, feeds)[0]
    assert len(encode(model).refused) == 0
    assert operators is None or [node.op_type for node in model.graph] == operators
    assert len(calls(model)) == 1
    assert list(model.graph.initializers["w.shape"].const_value.numpy()) == [48, 64]
    assert run_onnx(model, feeds)[0].tobytes() == dense.tobytes()


def test_a_weight_read_in_both_orientations_stays(build: Any) -> None:
    weight = sparse(np.random.default_rng(0), 64, 64)
    text = (
        f"{HEAD} g (float[5, 64] x) => (float[5, 64] y) {{ a = MatMul (x, w)  y = Gemm <transB = 1> (a, w) }}"
    )
    report = encode(build(text, {"w": weight}))
    assert {refusal.reason for refusal in report.refused} == {"its weights are read in both orientations"}


def test_shared_weights_are_stored_once(build: Any) -> None:
    weight = sparse(np.random.default_rng(0), 64, 64, 1, 1)
    text = f"{HEAD} g (float[1, 64, 2, 2] x) => (float[1, 64, 2, 2] y) {{ a = Conv (x, w)  y = Conv (a, w) }}"
    model = build(text, {"w": weight})
    feeds = {"x": np.ones((1, 64, 2, 2), np.float32)}
    dense = run_onnx(model, feeds)[0]
    report = encode(model)
    assert len(report.changed) == 2
    assert len(calls(model)) == 1
    assert run_onnx(model, feeds)[0].tobytes() == dense.tobytes()


def test_a_weight_of_zeros(build: Any) -> None:
    model = build(
        f"{HEAD} g (float[1, 64, 2, 2] x) => (float[1, 64, 2, 2] y) {{ y = Conv (x, w) }}",
        {"w": np.zeros((64, 64, 1, 1), np.float32)},
    )
    encode(model)
    assert not run_onnx(model, {"x": np.ones((1, 64, 2, 2), np.float32)})[0].any()


def test_the_compilers_front_keeps_the_calls(cnn: ir.Model, image: dict[str, Any]) -> None:
    model = prepare(cnn)
    Prune(sparsity=0.8)(model)
    encode(model)
    again = prepare(load_model(ir.to_proto(model).SerializeToString()))
    stored = find_format("block-sparse")
    assert len(calls(again)) == 2
    for call in calls(again):
        parts = {}
        for part, value in zip(stored.parts, call.inputs, strict=True):
            assert value is not None
            assert value.is_initializer()
            assert value.const_value is not None
            parts[part] = value.const_value.numpy()
        assert stored.decode(parts).shape == call.outputs[0].shape.numpy()  # type: ignore[union-attr]
    assert run_onnx(again, image)[0].tobytes() == run_onnx(model, image)[0].tobytes()
