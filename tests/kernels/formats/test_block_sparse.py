"""block-sparse: what is decoded is what was stored, by numpy and by onnxruntime alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.kernels.formats import DOMAIN, find_format, format_names, format_of_operator
from gossamer.kernels.formats.base import FUNCTION_OPSET, Array
from gossamer.kernels.formats.block_sparse import block_survivors
from gossamer.runtime.errors import ModelError, OptionError

FORMAT = find_format("block-sparse")


@st.composite
def weights(draw: st.DrawFn) -> tuple[Array, int, int]:
    rank = draw(st.integers(2, 4))
    shape = tuple(draw(st.integers(1, 9 if rank > 2 else 20)) for _ in range(rank))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dense = rng.standard_normal(shape, dtype=np.float32)
    keep = rng.random(shape) >= draw(st.sampled_from([0.0, 0.3, 0.8, 0.97, 1.0]))
    return np.where(keep, dense, np.float32(0)), draw(st.integers(1, 9)), draw(st.integers(1, 5))


def decode_with_onnxruntime(parts: Mapping[str, Array]) -> Array:
    """Run the function over the parts as initializers, as a converted file does."""
    initializers = [onnx.numpy_helper.from_array(parts[name], name) for name in FORMAT.parts]
    node = onnx.helper.make_node(FORMAT.operator, list(FORMAT.parts), ["W"], domain=DOMAIN)
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [],
        [onnx.helper.make_tensor_value_info("W", 1, [None] * len(parts["shape"]))],
        initializers,
    )
    model = onnx.helper.make_model(
        graph,
        functions=[ir.to_proto(FORMAT.function())],
        opset_imports=[onnx.helper.make_opsetid("", FUNCTION_OPSET), onnx.helper.make_opsetid(DOMAIN, 1)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {})[0]
    return result


@given(weights())
def test_decoding_gives_back_every_bit(case: tuple[Array, int, int]) -> None:
    weight, rows, columns = case
    parts = FORMAT.encode(weight, rows=rows, columns=columns)
    assert list(parts) == list(FORMAT.parts)
    assert FORMAT.decode(parts).tobytes() == weight.tobytes()


@given(weights())
@settings(max_examples=60, deadline=None)
def test_onnxruntime_decodes_the_same(case: tuple[Array, int, int]) -> None:
    weight, rows, columns = case
    decoded = decode_with_onnxruntime(FORMAT.encode(weight, rows=rows, columns=columns))
    assert decoded.shape == weight.shape
    assert decoded.tobytes() == weight.tobytes()


@given(weights())
def test_survivors_are_counted_without_packing(case: tuple[Array, int, int]) -> None:
    weight, rows, columns = case
    stored = len(FORMAT.encode(weight, rows=rows, columns=columns)["values"])
    assert max(1, block_survivors(weight, rows, columns)) == stored


def test_bits_per_weight_counts_stored_bytes() -> None:
    weight = np.zeros((32, 32), np.float32)
    weight[:4, 0] = 1
    parts = FORMAT.encode(weight, rows=4, columns=1)
    assert FORMAT.bits_per_weight(parts, weight.shape) == 8 * (4 * 4 + 32 + 16) / 1024


def test_a_weight_of_zeros_stores_one_block() -> None:
    parts = FORMAT.encode(np.zeros((8, 3), np.float32))
    assert parts["values"].shape == (1, 4, 1)
    assert not FORMAT.decode(parts).any()


def test_no_surviving_block_decodes_too() -> None:
    parts: dict[str, Array] = {
        "values": np.zeros((0, 4, 1), np.float32),
        "mask": np.zeros(1, np.uint8),
        "shape": np.array([8, 3], np.int64),
    }
    assert not FORMAT.decode(parts).any()
    assert decode_with_onnxruntime(parts).shape == (8, 3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": np.array([1 << 40, 1 << 40], np.int64)}, "too much"),
        ({"shape": np.array([8], np.int64)}, "malformed"),
        ({"shape": np.array([8, -4], np.int64)}, "malformed"),
        ({"values": np.zeros((2, 0, 1), np.float32)}, "malformed"),
        ({"values": np.zeros((2, 4, 1), np.float64)}, "malformed"),
        ({"mask": np.zeros(9, np.uint8)}, "wrong length"),
        ({"mask": np.array([0b111], np.uint8)}, "does not fit"),
        ({"mask": np.array([0b1000_0001], np.uint8)}, "does not fit"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: dict[str, Array], text: str) -> None:
    weight = np.zeros((8, 2), np.float32)
    weight[0, 0] = weight[4, 0] = 1
    with pytest.raises(ModelError, match=text):
        FORMAT.decode(FORMAT.encode(weight) | change)


@pytest.mark.parametrize("array", [np.zeros(3, np.float32), np.zeros((2, 2)), np.zeros((0, 2), np.float32)])
def test_an_array_that_cannot_be_stored_is_refused(array: Array) -> None:
    with pytest.raises(OptionError, match="cannot store"):
        FORMAT.encode(array)


def test_formats_are_found_by_file_and_by_operator() -> None:
    assert "block-sparse" in format_names()
    assert format_of_operator("BlockSparseDecode") is FORMAT
    assert format_of_operator("Conv") is None
    with pytest.raises(OptionError, match="did you mean block-sparse"):
        find_format("blocksparse")
