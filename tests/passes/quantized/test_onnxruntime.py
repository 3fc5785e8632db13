"""Models quantised by onnxruntime's own tools: converted and compiled they give what onnxruntime gives."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

import gossamer
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.passes.reference import run_onnx
from gossamer.passes.rounding import rounding_limits
from gossamer.runtime.comparing import tensor_error

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
RNG = np.random.default_rng
Feeds = dict[str, Any]

CNN = """
<ir_version: 10, opset_import: ["": 21]>
cnn (float[1, 3, 12, 12] x) => (float[1, 10] y) {
  [stem] a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)  [stem_act] b = Relu (a)
  [depthwise] c = Conv <group = 16, pads = [1, 1, 1, 1], strides = [2, 2]> (b, w1, b1)
  [dw_act] d = Clip (c, lo, hi)
  [point] e = Conv (d, w2, b2)  [pool] f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
  [sum] g = Add (e, f)  [joined] h = Concat <axis = 1> (g, f)
  [mean] i = GlobalAveragePool (h)  [flat] k = Flatten (i)  [head] y = Gemm <transB = 1> (k, w3, b3)
}
"""
BLOCK = """
<ir_version: 10, opset_import: ["": 21]>
block (float[1, 6, 32] x) => (float[1, 6, 32] y) {
  [query] q = MatMul (x, w0)  [key] k = MatMul (x, w1)  [turn] t = Transpose <perm = [0, 2, 1]> (k)
  [scores] s = MatMul (q, t)  [soft] p = Softmax (s)  [mixed] m = MatMul (p, x)
  [residual] r = Add (m, x)  [gate] g = Sigmoid (r)  [swish] u = Mul (r, g)  [out] y = MatMul (u, w2)
}
"""


def arrays(**shapes: tuple[int, ...]) -> Feeds:
    generator = RNG(3)
    return {
        name: generator.standard_normal(shape, np.float32) * np.float32(prod(shape[1:]) ** -0.5)
        for name, shape in shapes.items()
    }


MODELS: dict[str, tuple[str, Feeds]] = {
    "cnn": (
        CNN,
        arrays(
            w0=(16, 3, 3, 3), b0=(16,), w1=(16, 1, 3, 3), b1=(16,), w2=(16, 16, 1, 1), b2=(16,), w3=(10, 32)
        )
        | arrays(b3=(10,))
        | {"lo": np.float32(0), "hi": np.float32(6)},
    ),
    "block": (BLOCK, arrays(w0=(32, 32), w1=(32, 32), w2=(32, 32))),
}


class Samples(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Sixteen random inputs."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._feeds: Iterator[Feeds] = ({"x": RNG(i).standard_normal(shape, np.float32)} for i in range(16))

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def write(name: str, folder: Path) -> tuple[Path, tuple[int, ...]]:
    text, weights = MODELS[name]
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    onnx.save(proto, folder / "float.onnx")
    return folder / "float.onnx", tuple(d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim)


def static(name: str, folder: Path, **options: Any) -> tuple[Path, Feeds]:
    path, shape = write(name, folder)
    quantize_static(path, folder / "q.onnx", Samples(shape), **options)
    return folder / "q.onnx", {"x": RNG(99).standard_normal(shape, np.float32)}


def require_same(path: Path, feeds: Feeds, *, compiled: bool) -> ir.Model:
    """Converted and, where asked for, compiled: the outputs are within steps of those of the file."""
    expected = run_onnx(path, feeds)
    limits = rounding_limits(path, feeds, expected)
    formed = prepare(load_model(path))
    results = [run_onnx(formed, feeds)]
    if compiled:
        with gossamer.compile(path, verify=False).session() as session:
            results.append(session.run(None, feeds))
    for outputs in results:
        for got, wanted, limit in zip(outputs, expected, limits, strict=True):
            assert tensor_error(wanted, got).relative <= limit <= 0.08
    return formed


U8, S8, U16, S16, S4, U4 = (
    getattr(QuantType, name) for name in ("QUInt8", "QInt8", "QUInt16", "QInt16", "QInt4", "QUInt4")
)
QDQ, OPERATORS = QuantFormat.QDQ, QuantFormat.QOperator
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("form", "activations", "weights", "options", "compiled"),
    [
        (QDQ, U8, S8, {"per_channel": True}, True),
        (QDQ, S8, S8, {"per_channel": True, "extra_options": SYMMETRIC}, True),
        (QDQ, U8, U8, {}, False),
        (QDQ, S8, S8, {"extra_options": {"QuantizeBias": False}}, False),
        (OPERATORS, U8, S8, {"per_channel": True}, False),
        (OPERATORS, U8, U8, {}, True),
        (OPERATORS, S8, S8, {}, False),
        (QDQ, S16, S8, {"per_channel": True}, True),
        (QDQ, U16, S8, {"extra_options": {"UseQDQContribOps": True}}, False),
        (QDQ, U8, S4, {}, True),
        (QDQ, U8, U4, {}, False),
    ],
)
def test_static_quantization(
    name: str, form: Any, activations: Any, weights: Any, options: Any, compiled: bool, tmp_path: Path
) -> None:
    path, feeds = static(
        name, tmp_path, quant_format=form, activation_type=activations, weight_type=weights, **options
    )
    formed = require_same(path, feeds, compiled=compiled)
    assert not {node.domain for node in formed.graph} - {""}
    for node in formed.graph:
        if node.op_type == "DequantizeLinear":
            assert len({use.node for use in node.outputs[0].uses()}) <= 1
        if node.op_type in ("MaxPool", "Transpose", "Flatten") and activations in (U8, S8):
            moved = node.inputs[0]
            assert moved is not None
            assert moved.dtype in (ir.DataType.UINT8, ir.DataType.INT8), node.name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weights", [U8, S8])
def test_dynamic_quantization(name: str, weights: Any, tmp_path: Path) -> None:
    path, shape = write(name, tmp_path)
    quantize_dynamic(path, tmp_path / "q.onnx", weight_type=weights, per_channel=weights == S8)
    feeds = {"x": RNG(99).standard_normal(shape, np.float32)}
    require_same(tmp_path / "q.onnx", feeds, compiled=weights == S8)


@pytest.mark.parametrize(("form", "bits"), [(QDQ, 4), (OPERATORS, 2), (OPERATORS, 4), (OPERATORS, 8)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_weights_in_blocks(form: Any, symmetric: bool, bits: int, tmp_path: Path) -> None:
    path, shape = write("block", tmp_path)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(path), bits=bits, block_size=16, is_symmetric=symmetric, quant_format=form
    )
    quantizer.process()
    onnx.save(quantizer.model.model, tmp_path / "q.onnx")
    feeds = {"x": RNG(99).standard_normal(shape, np.float32)}
    formed = require_same(tmp_path / "q.onnx", feeds, compiled=form == OPERATORS and not symmetric)
    found = [node.op_type for node in formed.graph]
    assert found.count("GroupIntDecode" if bits == 2 else "DequantizeLinear") == 3
    assert "MatMulNBits" not in found
