"""Random networks whose weights and results are small integers, so that sums are exact in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Network", "networks"]

Array = np.ndarray[Any, np.dtype[Any]]
_SIDE = 4


class Network:
    """A graph under construction: `value` is the last one, [1, `channels`, 4, 4]; `earlier` holds others."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.draw = draw
        self.random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.value, self.channels = "x", 3
        self.earlier: list[tuple[str, int]] = []

    def pick(self, *choices: Any) -> Any:
        """One of `choices`."""
        return self.draw(st.sampled_from(choices))

    def weight(self, *shape: int) -> str:
        """An initializer of small integers."""
        return self.constant(self.random.integers(-2, 3, shape).astype(np.float32))

    def constant(self, array: Array) -> str:
        """An initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, operator: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """A node; the names of its results."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, f"n{len(self.nodes)}", **attributes))
        return names

    def then(self, operator: str, *inputs: str, channels: int | None = None, **attributes: Any) -> None:
        """A node that reads the last value first, and gives the next."""
        (self.value,) = self.add(operator, [self.value, *inputs], **attributes)
        self.channels = channels or self.channels

    def small(self) -> None:
        """Keep results small, and the value for later."""
        self.then("Clip", self.constant(np.array(-3, np.float32)), self.constant(np.array(3, np.float32)))
        self.earlier.append((self.value, self.channels))

    def finish(self) -> ir.Model:
        """The model: the last value flattened, or pooled, and a Gemm."""
        if self.pick(True, False):
            self.then("Flatten")
            features = self.channels * _SIDE * _SIDE
        else:
            self.then("GlobalMaxPool")
            self.then("Reshape", self.constant(np.asarray([1, self.channels])))
            features = self.channels
        if self.pick(True, False):
            self.then("Gemm", self.weight(12, features), self.weight(12), transB=1)
            self.then("Relu")
            features = 12
        self.then("MatMul", self.weight(features, 5))
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])],
            [helper.make_tensor_value_info(self.value, TensorProto.FLOAT, [1, 5])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return ir.from_proto(model)


def _conv(net: Network) -> None:
    size, outputs = net.pick(1, 3), net.pick(4, 6, 8, 12)
    pads = [size // 2] * 4
    net.then("Conv", net.weight(outputs, net.channels, size, size), net.weight(outputs), pads=pads)
    net.channels = outputs


def _depthwise(net: Network) -> None:
    outputs, groups = net.channels * net.pick(1, 2), net.channels
    net.then("Conv", net.weight(outputs, 1, 3, 3), pads=[1] * 4, group=groups, channels=outputs)


def _grouped(net: Network) -> None:
    if net.channels % 2 == 0:
        net.then("Conv", net.weight(8, net.channels // 2, 1, 1), group=2, channels=8)


def _transposed(net: Network) -> None:
    net.then("ConvTranspose", net.weight(net.channels, 6, 1, 1), net.weight(6), channels=6)


def _norm(net: Network) -> None:
    scale, shift, mean = (net.weight(net.channels) for _ in range(3))
    net.then(
        "BatchNormalization", scale, shift, mean, net.constant(np.ones(net.channels, np.float32)), epsilon=0.0
    )


def _activation(net: Network) -> None:
    if net.pick(True, False):
        net.then("PRelu", net.weight(net.channels, 1, 1))
    else:
        net.then(net.pick("Relu", "Neg", "Abs"))


def _residual(net: Network) -> None:
    fitting = [name for name, channels in net.earlier if channels == net.channels]
    if fitting:
        net.then(net.pick("Add", "Mul", "Sub"), net.pick(*fitting))


def _concat(net: Network) -> None:
    if net.earlier and net.channels < 20:
        name, channels = net.pick(*net.earlier)
        net.then("Concat", name, axis=1, channels=net.channels + channels)


def _split(net: Network) -> None:
    if net.channels % 2 == 0:
        one, two = net.add("Split", [net.value], 2, axis=1, num_outputs=2)
        (net.value,) = (
            net.add("Concat", [two, one], axis=1) if net.pick(True, False) else net.add("Add", [one, two])
        )
        net.channels = net.channels if net.nodes[-1].op_type == "Concat" else net.channels // 2


def _slice_and_pad(net: Network) -> None:
    if net.channels >= 6:
        start, stop, step = net.pick((1, 5, 1), (0, 6, 2), (5, 1, -1))
        bounds = [net.constant(np.asarray([number])) for number in (start, stop, 1, step)]
        net.then("Slice", *bounds)
        count = len(range(start, stop, step))
        net.then("Pad", net.constant(np.asarray([0, 1, 0, 0, 0, 3, 0, 0])), channels=count + 4)


def _gather(net: Network) -> None:
    taken = net.random.integers(0, net.channels, 6)
    net.then("Gather", net.constant(taken), axis=1, channels=6)


def _squeeze_and_excite(net: Network) -> None:
    value = net.value
    net.then("GlobalMaxPool")
    net.then("Conv", net.weight(4, net.channels, 1, 1))
    net.then("Relu")
    net.then("Conv", net.weight(net.channels, 4, 1, 1))
    (net.value,) = net.add("Mul", [value, net.value])


def _channels_last(net: Network) -> None:
    net.then("Transpose", perm=[0, 2, 3, 1])
    net.then("MatMul", net.weight(net.channels, 8))
    net.then("Add", net.weight(8), channels=8)
    net.then("Transpose", perm=[0, 3, 1, 2])


def _depth_to_space(net: Network) -> None:
    if net.channels % 4 == 0:
        net.then("DepthToSpace", blocksize=2, mode=net.pick("DCR", "CRD"))
        net.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2], channels=net.channels // 4)


def _shuffle(net: Network) -> None:
    if net.channels % 2 == 0:
        groups = [1, 2, net.channels // 2, _SIDE, _SIDE]
        net.then("Reshape", net.constant(np.asarray(groups)))
        net.then("Transpose", perm=[0, 2, 1, 3, 4])
        net.then("Reshape", net.constant(np.asarray([1, net.channels, _SIDE, _SIDE])))


_STEPS = [value for name, value in sorted(globals().items()) if name[0] == "_" and callable(value)]


@st.composite
def networks(draw: Callable[..., Any]) -> ir.Model:
    """A convolution and some steps after it, in any order; results are integers below 2**24."""
    net = Network(draw)
    _conv(net)
    net.small()
    for step in draw(st.lists(st.sampled_from(_STEPS), min_size=1, max_size=8)):
        step(net)
        net.small()
    return net.finish()
