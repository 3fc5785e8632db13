"""What operators tie, what they pin, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.channels import axes, classes
from gossamer.passes.channels.classes import Classes, components
from gossamer.passes.channels.permuting import axis_orders, permute_constants
from gossamer.passes.channels.reading import read_ties
from gossamer.passes.reference import run_onnx
from gossamer.passes.shapes import infer_shapes

Build = Callable[..., ir.Model]
HEAD = '<ir_version: 10, opset_import: ["": 21]>\n'


def sets_of(model: ir.Model) -> list[int]:
    """How many channels may change places with each other, set by set."""
    infer_shapes(model)
    return [len(channels) for channels in Classes(read_ties(model)).sets]


def reason(model: ir.Model, weight: str) -> str:
    """Why the outputs of a weight stay."""
    infer_shapes(model)
    return Classes(read_ties(model)).reason((model.graph.initializers[weight], 0))


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def after_conv(build: Build, body: str, **weights: Any) -> ir.Model:
    """A convolution of 8 channels, `body` from v to w, and one of 4 outputs after it."""
    known = "<float[1, 8, 4, 4] w>" if "GroupNormalization" in body else ""  # which ONNX does not infer
    io = f"g (float[1, 3, 4, 4] x) => (float[?, ?, ?, ?] y) {known}"
    return build(
        f"{HEAD} {io} {{ v = Conv(x, a) {body} y = Conv(w, b) }}",
        {"a": ones(8, 3, 1, 1), "b": ones(4, 8, 1, 1), **weights},
    )


def test_channels_between_two_convolutions_are_free(build: Build) -> None:
    model = after_conv(build, "w = Relu(v)")
    assert sets_of(model) == [8]
    assert reason(model, "b") == "y is an output of the model"


def test_padded_channels_are_a_set_of_their_own(build: Build) -> None:
    """The shortcut of small residual networks: zeros on both sides of what there is."""
    body = "s = Pad(v, pads) u = Conv(v, c) t = Add(s, u) w = Relu(t)"
    weights = {"pads": np.asarray([0, 2, 0, 0, 0, 2, 0, 0]), "c": ones(12, 8, 1, 1), "b": ones(4, 12, 1, 1)}
    assert sets_of(after_conv(build, body, **weights)) == [8, 4]


def test_groups_keep_their_channels(build: Build) -> None:
    model = after_conv(build, "w = Conv<group=2>(v, c)", c=ones(8, 4, 1, 1))
    assert sets_of(model) == [4, 4, 4, 4]


def test_halves_that_are_added_go_together(build: Build) -> None:
    body = "s, t = Split<axis=1, num_outputs=2>(v) w = Add(s, t)"
    assert sets_of(after_conv(build, body, b=ones(4, 4, 1, 1))) == [4]


def test_neighbours_that_are_added_stay(build: Build) -> None:
    """Each channel meets the next, so all of them are one."""
    body = "s = Slice(v, zero, seven, one) t = Slice(v, one, eight, one) w = Add(s, t)"
    numbers = {name: np.asarray([n]) for name, n in (("zero", 0), ("one", 1), ("seven", 7), ("eight", 8))}
    model = after_conv(build, body, b=ones(4, 7, 1, 1), **numbers)
    assert sets_of(model) == []
    assert reason(model, "a") == "no two of its channels are used alike"


@pytest.mark.parametrize(
    ("body", "culprit"),
    [
        ("w = LRN<size=3>(v)", "LRN"),
        ("s = CumSum(v, axis) w = Identity(s)", "CumSum"),
        ("s = Reshape(v, wide) w = Reshape(s, back)", "Reshape"),
    ],
)
def test_what_needs_an_order_is_named(build: Build, body: str, culprit: str) -> None:
    numbers = {"axis": np.asarray(1), "wide": np.asarray([1, 16, 2, 4]), "back": np.asarray([1, 8, 4, 4])}
    model = after_conv(build, body, **numbers)
    assert sets_of(model) == []
    assert culprit in reason(model, "a")


def test_unknown_operators_and_bodies_of_nodes_pin_what_they_read(build: Build) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[1, 3, 4, 4] x, bool c) => (float[1, 4, 4, 4] y) {
      v = Conv(x, a)
      w = If(c) <then_branch = t () => (float[1, 8, 4, 4] p) { p = Relu(v) },
                 else_branch = e () => (float[1, 8, 4, 4] q) { q = Neg(v) }>
      y = Conv(w, b)
    }"""
    model = build(text, {"a": ones(8, 3, 1, 1), "b": ones(4, 8, 1, 1)})
    assert sets_of(model) == []
    assert "body of a node" in reason(model, "a")


def test_a_value_that_is_data_and_parameter_at_once_stays(build: Build) -> None:
    text = (
        HEAD + "g (float[4, 3] x) => (float[4, 8] y) { v = MatMul(x, a) i = Cast<to=7>(v) y = Gather(v, j) }"
    )
    model = build(text, {"a": ones(3, 8), "j": np.arange(4)})
    assert sets_of(model) == []


def test_shared_weights_in_two_places_tie_both(build: Build) -> None:
    """One weight's inputs and outputs become one set where it follows itself."""
    body = "{ s = MatMul(x, a) t = MatMul(s, c) u = MatMul(t, c) y = MatMul(u, b) }"
    text = f"{HEAD} g (float[1, 3] x) => (float[1, 2] y) {body}"
    model = build(text, {"a": ones(3, 6), "c": ones(6, 6), "b": ones(6, 2)})
    assert sets_of(model) == [6]


def test_sizes_that_are_not_known_pin(build: Build) -> None:
    body = "{ s = MatMul(x, a) t = Add(s, z) y = MatMul(t, b) }"
    text = f"{HEAD} g (float[n, 3] x, float[n, k] z) => (float[n, 2] y) {body}"
    model = build(text, {"a": ones(3, 6), "b": ones(6, 2)})
    assert sets_of(model) == []


_BODIES: dict[str, str] = {
    "LayerNormalization": "w = LayerNormalization<axis=1>(v, cube, cube2)",
    "InstanceNormalization": "w = InstanceNormalization(v, row, row2)",
    "GroupNormalization": "w = GroupNormalization<num_groups=2>(v, row, row2)",
    "Softmax": "w = Softmax<axis=1>(v)",
    "ReduceMean": "m = ReduceMean(v, one) u = Sub(v, m) w = Relu(u)",
    "Resize": "u = Resize(v, , scales) w = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(u)",
    "Einsum": 'u = Einsum<equation="nchw,cd->ndhw">(v, square) w = Relu(u)',
    "Gather": "w = Gather<axis=1>(v, taken)",
    "QuantizeLinear": "q = QuantizeLinear<axis=1>(v, row3, zero) w = DequantizeLinear<axis=1>(q, row3, zero)",
    "Tile": "u = Tile(v, twice) w = Slice(u, four, twelve, one)",
    "Expand": "u = Expand(v, sizes) w = ReduceMax<keepdims=0>(u, nought)",
    "Unsqueeze": "u = Unsqueeze(v, two) m = ReduceL2<keepdims=1>(u, two) w = Squeeze(m, two)",
    "SpaceToDepth": "u = SpaceToDepth<blocksize=2>(v) w = DepthToSpace<blocksize=2>(u)",
}


def constants(random: np.random.Generator) -> dict[str, Any]:
    """All that the bodies read."""
    shapes = {"cube": (8, 4, 4), "cube2": (8, 4, 4), "row": (8,), "row2": (8,), "square": (8, 8)}
    shapes |= {"a": (8, 3, 1, 1), "b": (4, 8, 1, 1)}
    integers = {"one": [1], "two": [2], "nought": [0], "four": [4], "twelve": [12], "twice": [1, 2, 1, 1]}
    integers |= {"taken": [0, 3, 3, 1, 2, 7, 6, 5], "sizes": [2, 1, 8, 4, 4]}
    found: dict[str, Any] = {k: random.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
    found |= {name: np.asarray(numbers, np.int64) for name, numbers in integers.items()}
    found["scales"] = np.asarray([1, 1, 2, 2], np.float32)
    found["row3"], found["zero"] = np.linspace(0.1, 0.2, 8, dtype=np.float32), np.zeros(8, np.int8)
    return found


@pytest.mark.parametrize("operator", _BODIES)
def test_operators_keep_results_when_channels_move(build: Build, operator: str) -> None:
    random = np.random.default_rng(3)
    body = _BODIES[operator]
    words = {"a", "b", *re.findall(r"\w+", body)}
    model = after_conv(build, body, **{k: v for k, v in constants(random).items() if k in words})
    assert max(sets_of(model)) >= 3
    feeds = {"x": random.standard_normal((1, 3, 4, 4)).astype(np.float32)}
    expected, first = run_onnx(model, feeds)[0], values(model, "a")
    ties = read_ties(model)
    chosen = [(channels, random.permutation(len(channels))) for channels in Classes(ties).sets]
    permute_constants(model, ties, axis_orders(ties, chosen))
    assert not np.array_equal(values(model, "a"), first)
    np.testing.assert_allclose(run_onnx(model, feeds)[0], expected, rtol=1e-5, atol=1e-5)


def test_axes_that_are_too_long_stay(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        HEAD + "g (float[1, 3] x) => (float[1, 2] y) { s = MatMul(x, a) t = MatMul(s, c) y = MatMul(t, b) }"
    )
    model = build(text, {"a": ones(3, 6), "c": ones(6, 9), "b": ones(9, 2)})
    assert sets_of(model) == [6, 9]
    monkeypatch.setattr(classes, "_MOST_POSITIONS", 10)
    assert sets_of(model) == [6]
    monkeypatch.setattr(axes, "LARGEST_AXIS", 5)
    assert sets_of(model) == []


def values(model: ir.Model, name: str) -> Any:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_components_are_numbered_by_their_least_member() -> None:
    random = np.random.default_rng(0)
    one, two = random.integers(0, 60, (2, 40))
    found = components(60, [(one, two)])
    for start in range(60):
        reached, more = {start}, True
        while more:
            grown = reached | {int(b) for a, b in zip(one, two, strict=True) if a in reached}
            grown |= {int(a) for a, b in zip(one, two, strict=True) if b in reached}
            more, reached = grown != reached, grown
        assert found[start] == min(reached)
