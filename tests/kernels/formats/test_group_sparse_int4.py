"""group-sparse-int4: numpy and onnxruntime decode the same bits; pruned groups cost nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.kernels.formats import DOMAIN, find_format
from gossamer.kernels.formats.base import FUNCTION_OPSET, Array
from gossamer.kernels.formats.group_sparse_int4 import GROUPS, stored_bytes
from gossamer.runtime.errors import ModelError, OptionError

FORMAT = find_format("group-sparse-int4")


def grouped_weight(seed: int, shape: tuple[int, ...], group: int, sparsity: float) -> Array:
    """Normally distributed float32 whose zeros are whole groups of the flat inputs of an output."""
    rng = np.random.default_rng((seed, *shape))
    matrix = rng.standard_normal((shape[0], int(np.prod(shape[1:])))).astype(np.float32)
    for start in range(0, matrix.shape[1], group):
        matrix[rng.random(shape[0]) < sparsity, start : start + group] = 0
    return matrix.reshape(shape)


@st.composite
def weights(draw: st.DrawFn) -> tuple[Array, int]:
    shape = tuple(draw(st.integers(1, 6 if axis == 0 else 30)) for axis in range(draw(st.integers(2, 3))))
    group, sparsity = draw(st.sampled_from(GROUPS)), draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    return grouped_weight(draw(st.integers(0, 2**16)), shape, group, sparsity), group


def decode_with_onnxruntime(parts: Mapping[str, Array]) -> Array:
    """Run the function over the parts as initializers, as a converted file does."""
    initializers = [onnx.numpy_helper.from_array(parts[name], name) for name in FORMAT.parts]
    node = onnx.helper.make_node(FORMAT.operator, list(FORMAT.parts), ["W"], domain=DOMAIN)
    result = onnx.helper.make_tensor_value_info("W", 1, [None] * len(parts["shape"]))
    graph = onnx.helper.make_graph([node], "g", [], [result], initializers)
    opsets = [onnx.helper.make_opsetid("", FUNCTION_OPSET), onnx.helper.make_opsetid(DOMAIN, 1)]
    functions = [ir.to_proto(FORMAT.function())]
    model = onnx.helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    decoded: Array = session.run(None, {})[0]
    return decoded


@given(weights())
def test_a_weight_is_off_by_half_a_level_at_most(case: tuple[Array, int]) -> None:
    weight, group = case
    parts = FORMAT.encode(weight, group=group)
    assert list(parts) == list(FORMAT.parts)
    decoded = FORMAT.decode(parts)
    span = max(0.0, float(weight.max(initial=0))) - min(0.0, float(weight.min(initial=0)))
    assert np.abs(decoded - weight).max() <= span / 15 * 1.01  # the zero point is rounded too
    assert not decoded[weight == 0].any()


@given(weights())
@settings(max_examples=60, deadline=None)
def test_onnxruntime_decodes_the_same_bits(case: tuple[Array, int]) -> None:
    parts = FORMAT.encode(case[0], group=case[1])
    assert decode_with_onnxruntime(parts).tobytes() == FORMAT.decode(parts).tobytes()


@pytest.mark.parametrize(("group", "bits"), [(16, 2.875), (32, 2.4375), (64, 2.21875), (128, 2.109375)])
def test_bytes_are_those_of_the_formula(group: int, bits: float) -> None:
    """Density x (4 + (16 + 4 + 8) / G), and row starts."""
    shape = (64, 4096)
    weight = np.ones(shape, np.float32)
    weight.reshape(64, -1, group)[:, ::2] = 0
    parts = FORMAT.encode(weight, group=group)
    assert FORMAT.bits_per_weight(parts, shape) == pytest.approx(bits + 32 / 4096, rel=0.01)
    assert FORMAT.stored_bytes(parts) == stored_bytes(shape, group, len(parts["scale"]))


def test_columns_beyond_a_byte_take_two() -> None:
    for inputs, dtype in ((256 * 16, np.uint8), (256 * 16 + 1, np.uint16)):
        weight = np.zeros((2, inputs), np.float32)
        weight[1, -1] = 15
        parts = FORMAT.encode(weight, group=16)
        assert parts["columns"].dtype == dtype
        assert parts["columns"].tolist() == [(inputs - 1) // 16]
        assert np.array_equal(FORMAT.decode(parts), weight)


def test_a_weight_of_zeros_stores_no_group() -> None:
    parts = FORMAT.encode(np.zeros((3, 20), np.float32), group=16)
    assert parts["quantized"].shape == (0, 8)
    assert parts["row_starts"].tolist() == [0, 0, 0, 0]
    assert not decode_with_onnxruntime(parts).any()


@pytest.mark.parametrize("options", [{"group": 15}, {"group": 256}, {"group": 8}, {"bits": 4}])
def test_bad_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        FORMAT.encode(np.zeros((4, 4), np.float32), **options)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.float32),
        np.zeros((2, 2)),
        np.zeros((0, 2), np.float32),
        np.full((2, 2), np.nan, np.float32),
        np.full((2, 2), 1e6, np.float32),
    ],
)
def test_an_array_that_cannot_be_stored_is_refused(array: Array) -> None:
    with pytest.raises(OptionError, match="cannot store"):
        FORMAT.encode(array)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": np.array([1 << 40, 1 << 40], np.int64)}, "too much"),
        ({"shape": np.array([3], np.int64)}, "malformed"),
        ({"shape": np.array([3, 0], np.int64)}, "malformed"),
        ({"shape": np.array([4, 40], np.int64)}, "do not fit together"),
        ({"shape": np.array([3, 30], np.int64)}, "columns"),
        ({"quantized": np.zeros((9, 7), np.uint8)}, "malformed"),
        ({"quantized": np.zeros((8, 8), np.uint8)}, "do not fit together"),
        ({"scale": np.zeros(9, np.float32)}, "malformed"),
        ({"scale": np.full(9, np.inf, np.float16)}, "not finite"),
        ({"zero": np.zeros(4, np.uint8)}, "do not fit together"),
        ({"columns": np.zeros(9, np.uint8)}, "columns"),
        ({"columns": np.array([0, 1, 2, 0, 1, 3, 0, 1, 2], np.uint8)}, "columns"),
        ({"row_starts": np.array([0, 3, 6, 8], np.uint32)}, "row starts"),
        ({"row_starts": np.array([0, 7, 6, 9], np.uint32)}, "row starts"),
        ({"row_starts": np.array([1, 3, 6, 9], np.uint32)}, "row starts"),
        ({"row_starts": np.array([0, 4, 6, 9], np.uint32)}, "columns"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: dict[str, Array], text: str) -> None:
    parts = FORMAT.encode(np.ones((3, 40), np.float32), group=16)
    with pytest.raises(ModelError, match=text):
        FORMAT.decode(parts | change)
