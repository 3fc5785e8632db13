"""Graphs as exporters write them, built by hand: their Q and DQ reach integer kernels, and results agree.

- PyTorch, `prepare_pt2e`/`convert_pt2e` and `torch.onnx.export(dynamo=True)`: activations per tensor, weights
  stored in int8 behind a DequantizeLinear of their channels, a Linear's behind a Transpose, float biases.
- PyTorch, quantisation-aware training through `torch.onnx.export` of old: float weights behind Q and DQ,
  activations in 7 bits by a Clip of integers, each sum rounded.
- NNCF and OpenVINO: a quantizer before every reader, channels asymmetric, so zero points for each.
- TensorFlow, tf2onnx: NHWC turned around each convolution, weights HWIO behind Q, DQ and a Transpose.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import gossamer
from gossamer.passes.preparing import prepare
from gossamer.passes.reference import run_onnx
from gossamer.passes.rounding import rounding_limits
from gossamer.runtime.comparing import tensor_error

HEAD = '<ir_version: 10, opset_import: ["": 21]>'
S = np.float32
RNG = np.random.default_rng


def integers(*shape: int, seed: int = 1, dtype: str = "int8") -> Any:
    info = np.iinfo(dtype)
    return RNG(seed).integers(max(info.min, -127), info.max + 1, shape, dtype)


def scales(count: int, seed: int = 2) -> Any:
    return (RNG(seed).random(count, np.float32) + S(0.5)) * S(0.002)


def floats(*shape: int, seed: int = 3, factor: float = 0.2) -> Any:
    return RNG(seed).standard_normal(shape, np.float32) * S(factor)


def pair(value: str, name: str, parameters: str = "s, z") -> str:
    """Q and DQ of `value`; the result is called d_`name`."""
    text = f"[q_{name}] q_{name} = Q ({value}, {parameters})  "
    return text + f"[d_{name}] d_{name} = DQ (q_{name}, {parameters})  "


PT2E = (
    pair("x", "x")
    + """[w0] dw0 = DQ <axis = 0> (w0, s0, z0)  [conv] c = Conv <pads = [1, 1, 1, 1]> (d_x, dw0, b0)
    [relu] r = Relu (c)  """
    + pair("r", "r", "t, n")
    + "[pool] p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d_r)  "
    + pair("p", "p", "t, n")
    + "[mean] m = ReduceMean <keepdims = 1> (d_p, axes)  "
    + pair("m", "m", "t, n")
    + "[view] v = Reshape (d_m, to)  "
    + pair("v", "v", "t, n")
    + """[w1] dw1 = DQ <axis = 0> (w1, s1, z1)  [t] tw = Transpose (dw1)
    [linear] l = MatMul (d_v, tw)  [bias] a = Add (l, b1)  """
    + pair("a", "a")
    + "y = Identity (d_a)"
)
QAT = (
    "[q_w] qw = Q <axis = 0> (wf, s0, z0)  [d_w] dw = DQ <axis = 0> (qw, s0, z0)  "
    + """[q_x] qx = Q (x, s, n)  [seven] cx = Clip (qx, n, top)  [d_x] dx = DQ (cx, s, n)
    [conv] c = Conv <pads = [1, 1, 1, 1]> (dx, dw, b0)  [relu] r = Relu (c)
    [q_r] qr = Q (r, t, n)  [seven_r] cr = Clip (qr, n, top)  [d_r] dr = DQ (cr, t, n)
    [other] o = Conv <pads = [1, 1, 1, 1]> (dr, dw2)  """
    + pair("o", "o")
    + "[sum] u = Add (dr, d_o)  [relu_u] v = Relu (u)  "
    + pair("v", "v", "t, n")
    + "y = Identity (d_v)"
)
NNCF = (
    pair("x", "x1")
    + pair("x", "x2")
    + """[fake] qw = Q <axis = 0> (wf, s0, zc)  [real] dw = DQ <axis = 0> (qw, s0, zc)
    [conv] c = Conv <pads = [1, 1, 1, 1]> (d_x1, dw, b0)
    [fake2] qv = Q <axis = 0> (wf, s0, zc)  [real2] dv = DQ <axis = 0> (qv, s0, zc)
    [conv2] e = Conv <pads = [1, 1, 1, 1]> (d_x2, dv, b0)  """
    + pair("c", "c")
    + pair("e", "e")
    + "[sum] y = Add (d_c, d_e)"
)
TF = (
    "[nhwc] h = Transpose <perm = [0, 2, 3, 1]> (x)  "
    + pair("h", "h")
    + """[q_w] qw = Q <axis = 3> (whwio, s0, z0)  [d_w] dw = DQ <axis = 3> (qw, s0, z0)
    [oihw] kw = Transpose <perm = [3, 2, 0, 1]> (dw)  [in] a = Transpose <perm = [0, 3, 1, 2]> (d_h)
    [conv] c = Conv <pads = [1, 1, 1, 1]> (a, kw, b0)  [out] o = Transpose <perm = [0, 2, 3, 1]> (c)
    [six] k = Clip (o, lo, hi)  """
    + pair("k", "k", "s6, n")
    + """[again] b = Transpose <perm = [0, 3, 1, 2]> (d_k)  [next] e = Conv <pads = [1, 1, 1, 1]> (b, dw2)
    [back] f = Transpose <perm = [0, 2, 3, 1]> (e)  """
    + pair("f", "f")
    + "y = Identity (d_f)"
)
DW2 = "[d_w2] dw2 = DQ <axis = 0> (w2, s2)  "
STORED: dict[str, Any] = {
    "s": S(0.03), "z": np.int8(-5), "t": S(0.02), "n": np.uint8(0), "top": np.uint8(127), "lo": S(0),
    "hi": S(6), "s6": S(6 / 255), "w0": integers(16, 8, 3, 3), "s0": scales(16), "z0": np.zeros(16, np.int8),
    "b0": floats(16), "axes": np.array([2, 3]), "to": np.array([1, 16]), "w1": integers(10, 16),
    "s1": scales(10), "z1": np.zeros(10, np.int8), "b1": floats(10), "wf": floats(16, 8, 3, 3),
    "zc": integers(16, seed=5) // 4, "whwio": floats(3, 3, 8, 16), "w2": integers(16, 16, 3, 3, seed=9),
    "s2": scales(16, 4),
}  # fmt: skip
Q, D = "QuantizeLinear", "DequantizeLinear"
CASES = {
    "PyTorch": (PT2E, "float[1, 10] y", {"MaxPool": 1, "Transpose": 0, "Relu": 0, Q: 4}),
    "PyTorch QAT": (DW2 + QAT, "float[1, 16, 8, 8] y", {"Clip": 2, "Relu": 0, Q: 4}),
    "NNCF": (NNCF, "float[1, 16, 8, 8] y", {Q: 3}),
    "TensorFlow": (DW2 + TF, "float[1, 8, 8, 16] y", {"Transpose": 1, "Clip": 0, Q: 3}),
}


def build_case(build: Any, name: str) -> ir.Model:
    body, output, _ = CASES[name]
    body = body.replace("s, n", "s7, n") if name == "PyTorch QAT" else body
    body = body.replace("= Q ", f"= {Q} ").replace("= DQ ", f"= {D} ")
    text = f"{HEAD} g (float[1, 8, 8, 8] x) => ({output}) {{ {body} }}"
    stored = STORED | {"s7": S(0.03)}
    model: ir.Model = build(text, stored)
    for initializer, value in list(model.graph.initializers.items()):
        if not value.uses():
            del model.graph.initializers[initializer]
    return model


@pytest.mark.parametrize("name", CASES)
def test_patterns_of_exporters_run_in_integers(build: Any, name: str) -> None:
    model, feeds = build_case(build, name), {"x": RNG(0).standard_normal((1, 8, 8, 8), np.float32)}
    expected = run_onnx(model, feeds)
    formed = prepare(model)
    (limit,) = rounding_limits(model, feeds, expected)
    assert limit < 0.05
    assert tensor_error(expected[0], run_onnx(formed, feeds)[0]).relative <= limit
    counts = Counter(node.op_type for node in formed.graph)
    for operator, count in CASES[name][2].items():
        assert counts[operator] == count, (operator, counts)
    artifact = gossamer.compile(model, verify=False)
    with artifact.session() as session:
        assert tensor_error(expected[0], session.run(None, feeds)[0]).relative <= limit
    kernels = {layer.name: layer.kernel for layer in artifact.layers}
    layers = [node.name for node in formed.graph if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert all("integer" in kernels[str(layer)] for layer in layers), kernels
