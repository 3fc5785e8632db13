"""Convolutions and products of quantised values: exact sums on every tail, onnxruntime's very roundings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer.kernels.lowering import lower
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.runtime.session import InferenceSession

from .test_sparse_kernels import Array, build

TYPES = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "float32": TensorProto.FLOAT}


@dataclass
class Convolution:
    """A convolution of integers less zero points, whose sums float32 holds exactly."""

    image: tuple[int, int, int, int]
    outputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    types: tuple[str, str] = ("uint8", "int8")
    zeros: tuple[int, int] = (0, 0)

    def expected(self, x: Array, w: Array) -> Array:
        """In int64, tap by tap."""
        top, left, bottom, right = self.pads
        x, w = x.astype(np.int64) - self.zeros[0], w.astype(np.int64) - self.zeros[1]
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        reach = (self.kernel - 1) * self.dilation + 1
        high, wide = ((n - reach) // self.stride + 1 for n in x.shape[2:])
        out = np.zeros((len(x), self.outputs, high, wide), np.int64)
        own, per = w.shape[1], self.outputs // self.groups
        for g in range(self.groups):
            for ky in range(self.kernel):
                for kx in range(self.kernel):
                    rows = slice(ky * self.dilation, None, self.stride)
                    columns = slice(kx * self.dilation, None, self.stride)
                    part = x[:, g * own : (g + 1) * own, rows, columns][:, :, :high, :wide]
                    taps = w[g * per : (g + 1) * per, :, ky, kx]
                    out[:, g * per : (g + 1) * per] += np.einsum("mc,nchw->nmhw", taps, part)
        return out


CONVOLUTIONS = [
    Convolution((1, 3, 9, 11), 5, kernel=3, stride=2, pads=(1, 1, 1, 1), zeros=(255, 0)),
    Convolution((2, 20, 7, 7), 33, zeros=(128, 0)),
    Convolution((1, 16, 8, 8), 16, kernel=3, pads=(1, 1, 1, 1), zeros=(3, 0)),
    Convolution((1, 4, 6, 13), 17, kernel=5, pads=(2, 0, 1, 3), types=("int8", "int8"), zeros=(-128, 0)),
    Convolution((1, 24, 10, 9), 12, kernel=3, dilation=2, types=("int8", "int8"), zeros=(127, 0)),
    Convolution((1, 12, 6, 6), 40, kernel=3, groups=4, pads=(1, 1, 1, 1), zeros=(7, 0)),
    Convolution((1, 16, 5, 6), 32, kernel=3, groups=8, pads=(0, 1, 1, 0), zeros=(200, 0)),
    Convolution((1, 10, 5, 5), 6, groups=2, types=("int8", "uint8"), zeros=(-3, 255)),
    Convolution((1, 7, 4, 4), 19, kernel=2, types=("uint8", "uint8"), zeros=(9, 0)),
    Convolution((1, 100, 1, 1), 37, zeros=(11, 0)),
]
PRODUCTS = [(1, 10, 7), (5, 33, 18), (17, 64, 48), (2, 1, 1)]
"""(rows, inputs, outputs)"""


def model_of(
    nodes: list[Any], feeds: dict[str, Array], outputs: dict[str, str], constants: dict[str, Array]
) -> bytes:
    ins = [helper.make_tensor_value_info(n, TYPES[str(a.dtype)], a.shape) for n, a in feeds.items()]
    outs = [helper.make_tensor_value_info(n, TYPES[t], None) for n, t in outputs.items()]
    initializers = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "integers", ins, outs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


def drawn(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    """All values, the ends more often than others."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    inside = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < 0.2, rng.choice([low, high], shape), inside).astype(dtype)


def sums() -> tuple[bytes, dict[str, Array], dict[str, Array]]:
    """All shapes as one model with scales of 1, its feeds, and what it must give."""
    rng = np.random.default_rng(5)
    nodes: list[Any] = []
    feeds: dict[str, Array] = {}
    expected: dict[str, Array] = {}
    constants: dict[str, Array] = {"one": np.float32(1)}  # type: ignore[dict-item]

    def dequantised(name: str, array: Array, zero: int, where: dict[str, Array]) -> str:
        where[name] = array
        constants[f"{name}_zero"] = np.asarray(zero, array.dtype)
        nodes.append(helper.make_node("DequantizeLinear", [name, "one", f"{name}_zero"], [f"{name}_real"]))
        return f"{name}_real"

    for i, case in enumerate(CONVOLUTIONS):
        own = case.image[1] // case.groups
        x = drawn(rng, case.types[0], *case.image)
        w = drawn(rng, case.types[1], case.outputs, own, case.kernel, case.kernel)
        inputs = [
            dequantised(f"x{i}", x, case.zeros[0], feeds),
            dequantised(f"w{i}", w, case.zeros[1], constants),
        ]
        sizes: dict[str, Any] = {
            "strides": [case.stride] * 2,
            "dilations": [case.dilation] * 2,
            "pads": case.pads,
        }
        nodes.append(helper.make_node("Conv", inputs, [f"y{i}"], group=case.groups, **sizes))
        expected[f"y{i}"] = case.expected(x, w)
    for i, (rows, depth, columns) in enumerate(PRODUCTS):
        x, w = drawn(rng, "uint8", rows, depth), drawn(rng, "int8", depth, columns)
        inputs = [dequantised(f"a{i}", x, 77, feeds), dequantised(f"b{i}", w, 0, constants)]
        nodes.append(helper.make_node("MatMul", inputs, [f"p{i}"]))
        expected[f"p{i}"] = (x.astype(np.int64) - 77) @ w.astype(np.int64)
    return model_of(nodes, feeds, dict.fromkeys(expected, "float32"), constants), feeds, expected


@pytest.mark.parametrize("target", ["host", "x86-64-v3", "wasm"])
def test_sums_are_exact_for_all_windows_types_and_zero_points(target: str, tmp_path: Path) -> None:
    model, feeds, expected = sums()
    program, folder = build(model, target, tmp_path / "artifact")
    assert {layer.kernel for layer in program.layers} == {"integer-gemm"}
    got = InferenceSession(folder).run(list(expected), feeds)
    for name, value in zip(expected, got, strict=True):
        assert np.array_equal(value, expected[name]), name


def test_weights_of_nine_bits_are_multiplied_as_two_of_eight() -> None:
    program = lower(prepare(load_model(sums()[0])), find_target("x86-64-v4-vnni"))
    stored = {layer.shape: layer for layer in program.layers}
    halved, wide = stored[(1, 6, 5, 5)], stored[(1, 19, 3, 3)]  # zero points 255 and 0 of uint8 weights
    assert halved.reason.startswith("vpdpbusd")
    assert wide.reason.startswith("vpmaddwd")  # 255 is no sum of two int8


def block() -> tuple[bytes, dict[str, Array]]:
    """3x3 of stride 2, then 1x1 and 3x3 with the sum around them, and a product: floats at both ends."""
    rng = np.random.default_rng(8)
    constants: dict[str, Array] = {}
    nodes: list[Any] = []

    def scaled(name: str, scale: Any, dtype: str, zero: Any) -> list[str]:
        constants[f"{name}_scale"] = np.asarray(scale, np.float32)
        constants[f"{name}_zero"] = np.asarray(zero, dtype)
        return [f"{name}_scale", f"{name}_zero"]

    def rounded(x: str, scale: float, zero: int) -> str:
        parameters = scaled(x, scale, "uint8", zero)
        nodes.append(helper.make_node("QuantizeLinear", [x, *parameters], [f"{x}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{x}_q", *parameters], [f"{x}_d"]))
        return f"{x}_d"

    def weighted(operator: str, x: str, y: str, source: float, *shape: int, **more: Any) -> str:
        scale = (rng.random(shape[0]) * 0.01 + 0.004).astype(np.float32)
        constants[f"{y}_w"] = drawn(rng, "int8", *shape)
        constants[f"{y}_b"] = rng.integers(-4000, 4000, shape[0]).astype(np.int32)
        w = scaled(f"{y}_w", scale, "int8", np.zeros(shape[0]))
        b = scaled(f"{y}_b", scale * np.float32(source), "int32", np.zeros(shape[0]))
        for name, parameters in ((f"{y}_w", w), (f"{y}_b", b)):
            nodes.append(helper.make_node("DequantizeLinear", [name, *parameters], [f"{name}_d"], axis=0))
        nodes.append(helper.make_node(operator, [x, f"{y}_w_d", f"{y}_b_d"], [y], **more))
        return y

    x = rounded("x", 0.02, 117)
    a = rounded(weighted("Conv", x, "a", 0.02, 24, 3, 3, 3, strides=[2, 2], pads=[1] * 4), 0.11, 0)
    c = rounded(weighted("Conv", a, "c", 0.11, 40, 24, 1, 1), 0.9, 130)
    d = rounded(weighted("Conv", c, "d", 0.9, 24, 40, 3, 3, pads=[1] * 4), 9.0, 121)
    nodes.append(helper.make_node("Add", [a, d], ["sum"]))
    nodes.append(helper.make_node("Relu", ["sum"], ["positive"]))
    e = rounded("positive", 7.0, 0)
    nodes.append(helper.make_node("GlobalAveragePool", [e], ["mean"]))
    nodes.append(helper.make_node("Flatten", [rounded("mean", 3.0, 0)], ["flat"]))
    y = rounded(weighted("Gemm", "flat", "y", 3.0, 10, 24, transB=1), 40.0, 128)
    feeds = {"x": rng.standard_normal((1, 3, 21, 21)).astype(np.float32)}
    return model_of(nodes, feeds, {y: "float32", "positive_q": "uint8"}, constants), feeds


def onnxruntime_gives(model: bytes, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options)
    return list(session.run(["positive_q", "y_d"], feeds))


@pytest.mark.parametrize("target", ["host", "wasm"])
def test_a_block_gives_what_onnxruntime_gives_within_a_step(target: str, tmp_path: Path) -> None:
    model, feeds = block()
    _, folder = build(model, target, tmp_path / "artifact")
    expected = onnxruntime_gives(model, feeds)
    got = InferenceSession(folder).run(["positive_q", "y_d"], feeds)
    for reference, value, step in zip(expected, got, (1, 40.0), strict=True):
        assert len(np.unique(reference)) > 5
        assert np.max(np.abs(reference.astype(np.float64) - value)) <= step


def test_a_block_runs_in_integers_from_end_to_end() -> None:
    program = lower(prepare(load_model(block()[0])), find_target("host"))
    layers = {layer.name or layer.operator: layer for layer in program.layers}
    assert {layer.kernel for layer in layers.values()} == {"integer-gemm"}
    assert all(layer.format == "int8" for layer in layers.values())
    summed = next(layer for layer in layers.values() if len(layer.fused) > 2)
    assert summed.shape == (1, 24, 11, 11)
    assert {weight.dtype for weight in program.weight_table if "panels" in weight.packing} == {"int8"}
    floats = sum(weight.bytes for weight in program.weight_table if weight.dtype == "float32")
    assert floats < 4 * 2 * (24 + 40 + 24 + 10) * 2  # scales only


def test_convolutions_along_one_axis_run_in_integers_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    constants: dict[str, Array] = {"s": np.asarray(0.05, np.float32), "z": np.asarray(100, np.uint8)}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q0"])]
    for i, (outputs, inputs, kernel, stride) in enumerate(((20, 5, 5, 2), (33, 20, 1, 1))):
        constants |= {f"w{i}": drawn(rng, "int8", outputs, inputs, kernel), f"v{i}": np.float32(0.002)}  # type: ignore[dict-item]
        nodes += [
            helper.make_node("DequantizeLinear", [f"q{i}", "s", "z"], [f"d{i}"]),
            helper.make_node("DequantizeLinear", [f"w{i}", f"v{i}"], [f"e{i}"]),
            helper.make_node("Conv", [f"d{i}", f"e{i}"], [f"c{i}"], strides=[stride], pads=[1, 2]),
            helper.make_node("QuantizeLinear", [f"c{i}", "s", "z"], [f"q{i + 1}"]),
        ]
    feeds = {"x": rng.standard_normal((2, 5, 30)).astype(np.float32)}
    model = model_of(nodes, feeds, {"q1": "uint8", "q2": "uint8"}, constants)
    program, folder = build(model, "host", tmp_path / "artifact")
    assert [layer.kernel for layer in program.layers] == ["integer-gemm", "integer-gemm"]
    expected = onnxruntime.InferenceSession(model).run(["q1", "q2"], feeds)
    got = InferenceSession(folder).run(["q1", "q2"], feeds)
    for reference, value in zip(expected, got, strict=True):
        assert len(np.unique(reference)) > 20
        assert np.max(np.abs(reference.astype(int) - value)) <= 1
