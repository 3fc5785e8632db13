"""bit-stack: onnxruntime decodes the same, fewer blocks are a coarser weight, hostile parts are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.bit_stack import head
from gossamer.runtime.errors import ModelError, OptionError

from .decoding import decode_with_onnxruntime

FORMAT = find_format("bit-stack")
ROUNDING = 1e-6  # of the largest weight: sums of a product's terms in another order


@st.composite
def stacks(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Array]]:
    rank = draw(st.integers(2, 4))
    shape = tuple(draw(st.integers(1, 7 if rank > 2 else 40)) for _ in range(rank))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = rng.standard_normal(shape).astype(np.float32) * np.float32(draw(st.sampled_from([1e-4, 1, 100])))
    most = min(shape[0], array[0].size)
    parts = FORMAT.encode(array, blocks=draw(st.integers(1, 4)), rank=draw(st.integers(1, most)))
    parts["columns"] = rng.uniform(0.1, 10, parts["columns"].shape).astype(np.float16)
    return shape, parts


@given(stacks())
@settings(max_examples=60, deadline=None)
def test_onnxruntime_decodes_the_same(case: tuple[tuple[int, ...], dict[str, Array]]) -> None:
    shape, parts = case
    assert list(parts) == list(FORMAT.parts)
    decoded = FORMAT.decode(parts)
    assert decoded.shape == shape
    got = decode_with_onnxruntime(FORMAT, parts, len(shape))
    assert got.shape == shape
    assert np.abs(got - decoded).max() <= ROUNDING * np.abs(decoded).max()


@given(stacks())
@settings(max_examples=30, deadline=None)
def test_fewer_blocks_decode_to_the_sum_so_far(case: tuple[tuple[int, ...], dict[str, Array]]) -> None:
    _, parts = case
    count = len(parts["order"])
    first, last = head(parts, count - 1), {**parts}
    for name in ("signs", "left", "right", "order"):
        last[name] = parts[name][count - 1 :]
    if count > 1:
        total = FORMAT.decode(first) + FORMAT.decode(last)
        assert np.abs(total - FORMAT.decode(parts)).max() <= ROUNDING * np.abs(total).max() * 4


def test_every_block_brings_the_weight_nearer() -> None:
    array = np.random.default_rng(0).standard_t(3, (128, 96)).astype(np.float32)
    parts = FORMAT.encode(array, blocks=16, rank=8)
    errors = [np.linalg.norm(FORMAT.decode(head(parts, n)) - array) for n in range(1, 17)]
    shares = np.array([np.linalg.norm(array), *errors]) / np.linalg.norm(array)
    assert (np.diff(shares) < 0).all()
    assert shares[1] < 0.7
    assert shares[4] < 0.25


def test_bytes_are_those_of_the_formula() -> None:
    array = np.random.default_rng(1).standard_normal((64, 256)).astype(np.float32)
    parts = FORMAT.encode(array, blocks=2, rank=4)
    block = 1 + 16 * 4 * (64 + 256) / array.size
    assert FORMAT.bits_per_weight(parts, array.shape) == pytest.approx(2 * block, rel=0.1)
    assert FORMAT.stored_bytes(parts) == 2 * (array.size // 8 + 2 * 4 * 320) + 2 * 256 + 2 * 4 + 2 * 8


def _parts() -> dict[str, Array]:
    return FORMAT.encode(np.random.default_rng(2).standard_normal((6, 3, 5)).astype(np.float32), blocks=2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": np.array([1 << 40, 1 << 40], np.int64)}, "too much"),
        ({"shape": np.array([90], np.int64)}, "malformed"),
        ({"shape": np.array([6, -15], np.int64)}, "malformed"),
        ({"shape": np.array([15, 6], np.int64)}, "wrong shape"),
        ({"signs": np.zeros((2, 1), np.uint8)}, "wrong shape"),
        ({"signs": np.zeros((2, 12), np.int8)}, "malformed"),
        ({"left": np.zeros((2, 6, 0), np.float16)}, "malformed"),
        ({"left": np.zeros((3, 6, 1), np.float16)}, "wrong shape"),
        ({"right": np.zeros((2, 2, 15), np.float16)}, "wrong shape"),
        ({"columns": np.zeros(6, np.float16)}, "wrong shape"),
        ({"order": np.array([1, 0], np.int32)}, "out of order"),
        ({"order": np.array([0, 0], np.int32)}, "out of order"),
        ({"order": np.array([-1, 0], np.int32)}, "out of order"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: dict[str, Array], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        FORMAT.decode(_parts() | change)


@pytest.mark.parametrize("options", [{"blocks": 0}, {"rank": 0}, {"rank": 7}, {"depth": 1}])
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        FORMAT.encode(np.ones((6, 15), np.float32), **options)
