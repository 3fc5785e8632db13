"""Types that no integer kernel takes are computed in floats, and rounded as ONNX says: float8, 4 and 16 bits,
blocks of activations."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

import gossamer
from gossamer.passes.reference import run_onnx

S = np.float32
TYPES = {
    "float8e4m3fn": np.zeros((), ml_dtypes.float8_e4m3fn),
    "float8e5m2": np.zeros((), ml_dtypes.float8_e5m2),
    "int4": np.array(-3, ml_dtypes.int4),
    "uint4": np.array(5, ml_dtypes.uint4),
    "int16": np.array(-77, np.int16),
    "uint16": np.array(30000, np.uint16),
}


def build(body: str, arrays: dict[str, Any]) -> ir.Model:
    """The model of a graph from x to y."""
    text = f'<ir_version: 10, opset_import: ["": 21]> g (float[6, 40] x) => (float[6, 40] y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    for name, array in arrays.items():
        proto.graph.initializer.append(ir.to_proto(ir.Tensor(np.asarray(array), name=name)))
    return ir.from_proto(proto)


def numbers() -> Any:
    """Ties between neighbours, subnormal numbers, both ends and beyond them."""
    exact = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    middles = np.sort(exact[np.isfinite(exact)])
    middles = (middles[1:] + middles[:-1]) / 2
    wide = RNG.standard_normal(2000, np.float32) * np.exp2(RNG.integers(-20, 18, 2000)).astype(np.float32)
    return np.resize(np.concatenate([middles, wide]), 6 * 40 * 8).reshape(8, 6, 40).astype(np.float32)


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("kind", TYPES)
def test_activations_of_rare_types_are_rounded_as_onnxruntime_rounds_them(kind: str) -> None:
    scale = S(0.5) if kind.startswith("float") else S(0.01) if "16" in kind else S(0.3)
    body = "q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z)"
    model = build(body, {"s": scale, "z": TYPES[kind]})
    with gossamer.compile(model, verify=False).session() as session:
        for x in numbers():
            wanted, got = run_onnx(model, {"x": x})[0], session.run(None, {"x": x})[0]
            assert np.array_equal(got, wanted), (x[got != wanted], got[got != wanted], wanted[got != wanted])


def test_activations_in_blocks_are_rounded_as_onnxruntime_rounds_them() -> None:
    scales, zeros = RNG.random((6, 3), np.float32) + S(0.01), RNG.integers(100, 150, (6, 3), np.uint8)
    parameters = "<axis = 1, block_size = 16> ({}, s, z)"
    body = f"q = QuantizeLinear {parameters.format('x')}  y = DequantizeLinear {parameters.format('q')}"
    model, x = build(body, {"s": scales, "z": zeros}), numbers()[3]
    with gossamer.compile(model, verify=False).session() as session:
        assert np.array_equal(session.run(None, {"x": x})[0], run_onnx(model, {"x": x})[0])
