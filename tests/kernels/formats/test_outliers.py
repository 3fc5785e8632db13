"""outliers: the places told are those that differ from the base, and onnxruntime decodes the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.outliers import largest, outlier_parts, outlier_places
from gossamer.runtime.errors import ModelError, OptionError

from .decoding import decode_with_onnxruntime

FORMAT = find_format("outliers")


@st.composite
def weights(draw: st.DrawFn) -> tuple[Array, Array]:
    """A weight and where its outliers are."""
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = (rng.standard_normal(shape) * draw(st.sampled_from([1, 1e5]))).astype(np.float32)
    return array, rng.random(shape) < draw(st.sampled_from([0.0, 0.01, 0.3, 1.0]))


@given(weights())
@settings(deadline=None)
def test_outliers_are_kept_and_all_else_is_the_base(case: tuple[Array, Array]) -> None:
    array, mask = case
    parts = {"base": np.zeros_like(array), **outlier_parts(array, mask)}
    decoded = FORMAT.decode(parts)
    assert (decoded[mask] == array[mask].astype(parts["values"].dtype)).all()
    on_the_way = array.size // 255 + (0 if mask.any() else 1)  # no part is ever empty
    assert (decoded[~mask] != 0).sum() <= on_the_way


@given(weights())
@settings(max_examples=40, deadline=None)
def test_onnxruntime_decodes_the_same(case: tuple[Array, Array]) -> None:
    array, mask = case
    parts = {"base": -array, **outlier_parts(array, mask)}
    got = decode_with_onnxruntime(FORMAT, parts, array.ndim)
    assert got.shape == array.shape
    assert got.tobytes() == FORMAT.decode(parts).tobytes()


@pytest.mark.parametrize(("places", "kind"), [([3, 300, 301], np.uint8), ([7, 200_000], np.uint16)])
def test_a_long_gap_keeps_one_more_weight_on_the_way(places: list[int], kind: type) -> None:
    array = (np.arange(300_000) % 2048).astype(np.float32)
    mask = np.zeros(array.shape, bool)
    mask[places] = True
    parts = outlier_parts(array, mask)
    assert parts["gaps"].dtype == kind
    found = outlier_places({"base": array, **parts})
    assert set(places) <= set(found.tolist())
    assert len(found) - len(places) == sum(gap // np.iinfo(kind).max for gap in np.diff([0, *places]))
    assert (array[found] == parts["values"]).all()


def test_one_percent_of_outliers_takes_less_than_32_bits_each() -> None:
    array = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    parts = outlier_parts(array, largest(np.abs(array), 0.01))
    stored = sum(part.nbytes for part in parts.values())
    assert stored == 3 * len(parts["gaps"])  # uint8 and float16
    assert 8 * stored / array.size < 32 * 0.01


def test_of_equal_scores_the_first_are_taken() -> None:
    assert largest(np.array([[1, 2], [2, 2]]), 0.5).tolist() == [[False, True], [True, False]]
    assert not largest(np.ones(3), 0.1).any()


def test_a_value_beyond_float16_makes_all_of_them_float32() -> None:
    array = np.array([[1, 7e4], [2, 3]], np.float32)
    parts = FORMAT.encode(array, share=0.5)
    assert parts["values"].dtype == np.float32
    assert FORMAT.decode(parts).tolist() == [[0, 7e4], [0, 3]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gaps": np.array([3, 4], np.uint8)}, "outside"),
        ({"gaps": np.array([65535, 65535], np.uint16)}, "outside"),
        ({"gaps": np.array([1, 0], np.uint8)}, "one place"),
        ({"gaps": np.array([1], np.uint8)}, "malformed"),
        ({"gaps": np.array([1, 2], np.int64)}, "malformed"),
        ({"gaps": np.array([[1, 2]], np.uint8)}, "malformed"),
        ({"values": np.zeros(2, np.float64)}, "malformed"),
        ({"base": np.zeros((2, 3), np.float16)}, "malformed"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: dict[str, Array], text: str) -> None:
    parts = FORMAT.encode(np.array([[0, 9, 0], [0, 0, 8]], np.float32), share=1 / 3)
    FORMAT.decode(parts)
    with pytest.raises(ModelError, match=text):
        FORMAT.decode(parts | change)


def test_wrong_options_are_refused() -> None:
    array = np.zeros((2, 2), np.float32)
    with pytest.raises(OptionError, match="share"):
        FORMAT.encode(array, share=1.5)
    with pytest.raises(OptionError, match="unknown option"):
        FORMAT.encode(array, count=1)
    with pytest.raises(OptionError, match="base"):
        FORMAT.encode(array, base=np.zeros(4, np.float32))
