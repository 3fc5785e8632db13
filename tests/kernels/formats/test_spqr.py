"""spqr: numpy and onnxruntime decode the same bits, the bytes are those of the formula, hostile parts are
refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.base import Array
from gossamer.kernels.group_grid import GroupForm
from gossamer.runtime.errors import ModelError, OptionError

from .decoding import decode_with_onnxruntime

FORMAT = find_format("spqr")


@st.composite
def weights(draw: st.DrawFn) -> tuple[Array, dict[str, Any]]:
    rank = draw(st.integers(2, 4))
    shape = tuple(draw(st.integers(1, 7 if rank > 2 else 40)) for _ in range(rank))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = rng.standard_normal(shape).astype(np.float32) * np.float32(draw(st.sampled_from([1e-6, 1, 1e6])))
    bits, scale_bits, zero_bits = (draw(st.integers(1, 8)) for _ in range(3))
    form = {"bits": bits, "scale_bits": scale_bits, "zero_bits": zero_bits}
    array[rng.random(shape) < draw(st.sampled_from([0.0, 0.9, 1.0]))] = 0
    return array, form | {"group": draw(st.integers(1, 20)), "rows": draw(st.integers(1, 20))}


@given(weights())
@settings(max_examples=60, deadline=None)
def test_onnxruntime_decodes_the_same_bits(case: tuple[Array, dict[str, Any]]) -> None:
    array, form = case
    parts = FORMAT.encode(array, **form)
    assert list(parts) == list(FORMAT.parts)
    decoded = FORMAT.decode(parts)
    assert decoded.shape == array.shape
    assert np.isfinite(decoded).all()
    assert decode_with_onnxruntime(FORMAT, parts, array.ndim).tobytes() == decoded.tobytes()


@pytest.mark.parametrize("form", [GroupForm(), GroupForm(4, 32, 4, 4, 8), GroupForm(2, 8, 3, 2, 64)])
def test_bytes_are_those_of_the_formula(form: GroupForm) -> None:
    array = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    parts = FORMAT.encode(array, **vars(form))
    header = 4 + 2 * 8 + 5 * 8  # unit, shape, form
    assert FORMAT.stored_bytes(parts) - header == form.bits_per_weight * array.size / 8
    assert FORMAT.bits_per_weight(parts, array.shape) == pytest.approx(form.bits_per_weight, rel=0.01)


def test_the_published_form_takes_3_945_bits_with_one_percent_of_outliers() -> None:
    assert GroupForm().bits_per_weight + 32 * 0.01 == 3.945


def test_weights_on_the_grid_come_back_exactly() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 8, (32, 48))
    codes[:, ::16], codes[:, 1::16] = 0, 7  # every group has its whole range
    array = ((codes - 3) / 4).astype(np.float32)
    parts = FORMAT.encode(array)
    assert FORMAT.decode(parts).tobytes() == array.tobytes()


def test_smaller_groups_and_more_bits_come_nearer() -> None:
    array = np.random.default_rng(2).standard_normal((64, 128)).astype(np.float32)

    def error(**form: int) -> float:
        return float(np.linalg.norm(FORMAT.decode(FORMAT.encode(array, **form)) - array))

    assert error(bits=2) > error(bits=3) > error(bits=4) > error(bits=8, scale_bits=8, zero_bits=8)
    assert error(group=64) > error(group=16) > error(group=4)


def _parts() -> dict[str, Array]:
    return FORMAT.encode(np.random.default_rng(3).standard_normal((20, 3, 3, 3)).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": np.array([1 << 40, 1 << 40], np.int64)}, "too much"),
        ({"shape": np.array([540], np.int64)}, "malformed"),
        ({"shape": np.array([20, -27], np.int64)}, "malformed"),
        ({"shape": np.array([21, 27], np.int64)}, "wrong shape"),
        ({"form": np.array([3, 16, 3, 3], np.int64)}, "malformed"),
        ({"form": np.array([9, 16, 3, 3, 16], np.int64)}, "malformed"),
        ({"form": np.array([3, 0, 3, 3, 16], np.int64)}, "malformed"),
        ({"form": np.array([3, 16, 3, 3, 1 << 62], np.int64)}, "wrong shape"),
        ({"codes": np.zeros(1, np.uint8)}, "wrong shape"),
        ({"scales": np.zeros((3, 3), np.uint8)}, "malformed"),
        ({"zeros": np.zeros(99, np.uint8)}, "wrong shape"),
        ({"grids": np.zeros((4, 2, 2), np.float32)}, "malformed"),
        ({"grids": np.zeros((4, 1, 2), np.float16)}, "wrong shape"),
        ({"unit": np.zeros(2, np.float32)}, "wrong shape"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: dict[str, Array], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        FORMAT.decode(_parts() | change)


def test_wrong_options_are_refused() -> None:
    array = np.ones((4, 4), np.float32)
    with pytest.raises(OptionError, match="form"):
        FORMAT.encode(array, bits=9)
    with pytest.raises(OptionError, match="unknown option"):
        FORMAT.encode(array, wbits=3)
    with pytest.raises(OptionError, match="finite"):
        FORMAT.encode(np.full((4, 4), np.nan, np.float32))
