"""n-m: what is decoded is what was stored, by numpy and by onnxruntime alike; bytes are the formula's."""

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
from gossamer.kernels.formats.n_m import most_kept
from gossamer.runtime.errors import ModelError, OptionError

FORMAT = find_format("n-m")


def n_m_weight(seed: int, shape: tuple[int, ...], kept: int, of: int) -> Array:
    """Normally distributed float32 of which each group keeps `kept` at most."""
    rng = np.random.default_rng((seed, *shape))
    rows = rng.standard_normal((shape[0], int(np.prod(shape[2:])), shape[1])).astype(np.float32)
    for start in range(0, shape[1], of):
        part = rows[..., start : start + of]
        part[np.argsort(rng.random(part.shape), axis=-1) >= kept] = 0
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(shape)


@st.composite
def weights(draw: st.DrawFn) -> tuple[Array, int, int]:
    shape = tuple(draw(st.integers(1, 40 if axis < 2 else 3)) for axis in range(draw(st.integers(2, 4))))
    of = draw(st.integers(2, 16))
    kept = draw(st.integers(1, of - 1))
    weight = n_m_weight(draw(st.integers(0, 2**16)), shape, kept, of)
    weight[np.random.default_rng(1).random(shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = 0
    return weight, kept, of


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
def test_decoding_gives_back_every_value(case: tuple[Array, int, int]) -> None:
    weight, kept, of = case
    parts = FORMAT.encode(weight, kept=kept, of=of)
    assert list(parts) == list(FORMAT.parts)
    assert np.array_equal(FORMAT.decode(parts), weight)


@given(weights(), st.sampled_from(["float32", "float16"]))
@settings(max_examples=60, deadline=None)
def test_onnxruntime_decodes_the_same_bits(case: tuple[Array, int, int], dtype: str) -> None:
    weight, kept, of = case
    parts = FORMAT.encode(weight, kept=kept, of=of, dtype=dtype)
    assert decode_with_onnxruntime(parts).tobytes() == FORMAT.decode(parts).tobytes()


@pytest.mark.parametrize(("kept", "of", "bits"), [(1, 4, 2), (2, 4, 2), (2, 8, 3), (4, 8, 3), (5, 16, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bytes_are_those_of_the_formula(kept: int, of: int, bits: int, dtype: str) -> None:
    weight = n_m_weight(0, (128, 256), kept, of)
    parts = FORMAT.encode(weight, kept=kept, of=of, dtype=dtype)
    formula = kept / of * (8 * np.dtype(dtype).itemsize + bits)
    assert FORMAT.bits_per_weight(parts, weight.shape) == pytest.approx(formula, rel=0.01)


def test_groups_run_along_the_input_channels_of_one_tap() -> None:
    weight = np.zeros((1, 8, 1, 2), np.float32)
    weight[0, :2, 0, 0] = weight[0, 2:4, 0, 1] = 1
    assert most_kept(weight, 4) == 2
    assert np.array_equal(FORMAT.decode(FORMAT.encode(weight, kept=2, of=4)), weight)


def test_a_weight_with_too_many_non_zeros_is_refused() -> None:
    with pytest.raises(OptionError, match="not 2:4 sparse"):
        FORMAT.encode(np.ones((1, 4), np.float32), kept=2, of=4)


@pytest.mark.parametrize(
    "options",
    [{"kept": 4, "of": 4}, {"kept": 0}, {"of": 17}, {"kept": 5, "of": 4}, {"dtype": "int8"}, {"rows": 1}],
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        FORMAT.encode(np.zeros((4, 4), np.float32), **options)


@pytest.mark.parametrize("array", [np.zeros(3, np.float32), np.zeros((2, 2)), np.zeros((0, 2), np.float32)])
def test_an_array_that_cannot_be_stored_is_refused(array: Array) -> None:
    with pytest.raises(OptionError, match="cannot store"):
        FORMAT.encode(array)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": np.array([1 << 40, 1 << 40], np.int64)}, "too much"),
        ({"shape": np.array([3], np.int64)}, "malformed"),
        ({"shape": np.array([3, -8], np.int64)}, "malformed"),
        ({"shape": np.array([3, 9], np.int64)}, "do not fit"),
        ({"shape": np.array([3, 8, 2], np.int64)}, "do not fit"),
        ({"values": np.zeros((3, 1, 2, 2), np.float64)}, "malformed"),
        ({"values": np.zeros((3, 1, 2, 4), np.float32)}, "not an N:M pattern"),
        ({"values": np.zeros((3, 1, 2, 0), np.float32)}, "not an N:M pattern"),
        ({"group": np.array([1 << 50], np.int64)}, "not an N:M pattern"),
        ({"group": np.array([4, 4], np.int64)}, "malformed"),
        ({"positions": np.zeros(2, np.uint8)}, "do not fit"),
        ({"positions": np.zeros(3, np.uint8)}, "positions"),  # the same position twice
        ({"positions": np.full(3, 0x1B, np.uint8)}, "positions"),  # falling
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: dict[str, Array], text: str) -> None:
    parts = FORMAT.encode(n_m_weight(0, (3, 8), 2, 4), kept=2, of=4)
    with pytest.raises(ModelError, match=text):
        FORMAT.decode(parts | change)


def test_positions_beyond_a_group_are_refused() -> None:
    parts = FORMAT.encode(n_m_weight(0, (3, 5), 1, 5), kept=1, of=5)
    with pytest.raises(ModelError, match="positions below 5"):
        FORMAT.decode(parts | {"positions": np.full(2, 0xFF, np.uint8)})
