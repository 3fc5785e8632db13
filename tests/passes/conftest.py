"""Small models: ONNX's text form, with weights given as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

Array = npt.NDArray[Any]
Build = Callable[..., ir.Model]


def build_model(text: str, weights: Mapping[str, Array] | None = None) -> ir.Model:
    """The checked model of ONNX's text form; `weights` become initializers."""
    proto = onnx.parser.parse_model(text)
    for name, array in (weights or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


@pytest.fixture
def build() -> Build:
    """Makes a model of ONNX's text form and a mapping of weights."""
    return build_model


_CNN = """
<ir_version: 8, opset_import: ["": 13]>
cnn (float[1, 3, 12, 12] x) => (float[1, 10] y) {
  [stem] a = Conv <pads = [1, 1, 1, 1]> (x, w0)
  [stem_bn] b = BatchNormalization (a, s0, o0, m0, v0)
  [stem_act] c = Relu (b)
  [depthwise] d = Conv <group = 32, pads = [1, 1, 1, 1]> (c, w1)
  [depthwise_bn] e = BatchNormalization (d, s1, o1, m1, v1)
  [pointwise1] f = Conv (e, w2, b2)
  [pointwise1_act] g = Relu (f)
  [pointwise2] h = Conv (g, w3)
  [square] i = Conv <pads = [1, 1, 1, 1]> (h, w4)
  [pool] j = GlobalAveragePool (i)
  [flatten] k = Flatten (j)
  [classifier] y = Gemm <transB = 1> (k, w5, b5)
}
"""


def _norm(rng: np.random.Generator, channels: int) -> list[Array]:
    scale, shift, mean = rng.standard_normal((3, channels), dtype=np.float32)
    return [scale + 2, shift, mean, rng.random(channels, dtype=np.float32) + np.float32(0.5)]


@pytest.fixture
def cnn() -> ir.Model:
    """Stem, depthwise, two pointwise, one 3x3 convolution, and a classifier, with batch norms."""
    rng = np.random.default_rng(7)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.2)

    weights = {"w0": normal(32, 3, 3, 3), "w1": normal(32, 1, 3, 3), "w2": normal(64, 32, 1, 1)}
    weights |= {"b2": normal(64), "w3": normal(50, 64, 1, 1), "w4": normal(24, 50, 3, 3)}
    weights |= {"w5": normal(10, 24), "b5": normal(10)}
    for index in range(2):
        weights |= dict(zip([f"{p}{index}" for p in "somv"], _norm(rng, 32), strict=True))
    return build_model(_CNN, weights)


@pytest.fixture
def image() -> dict[str, Array]:
    """Feeds of `cnn`."""
    return {"x": np.random.default_rng(1).standard_normal((1, 3, 12, 12), dtype=np.float32)}
