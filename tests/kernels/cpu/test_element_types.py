"""Every number of every small type, and what floats are rounded to, against ml_dtypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

import gossamer
from gossamer.kernels.cpu.element_types import SMALL_INTEGERS
from gossamer.kernels.cpu.small_floats import SMALL_FLOATS
from gossamer.runtime.element_types import raw_type

Array = np.ndarray[Any, np.dtype[Any]]
SMALL = (0.0, -0.0, 1e-45, 1e-7, 2.0**-25, 2.0**-24, 1.5 * 2.0**-24, 2.0**-10, 0.7, 1.0625, 1.1875, 2.5)
LARGE = (239, 248, 447.9, 463.9, 464, 464.1, 57344, 61439, 61440, 65504, 65519, 65520, 3.3e38, np.inf, np.nan)
EDGES = np.array([*SMALL, *LARGE], np.float32)


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)


def cast(x: Array, to: np.dtype[Any], folder: Path, saturate: int = 1) -> Array:
    """What a compiled Cast gives."""
    kind, target = (helper.np_dtype_to_tensor_dtype(dtype) for dtype in (x.dtype, to))
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=target, saturate=saturate)],
        "cast",
        [helper.make_tensor_value_info("x", kind, list(x.shape))],
        [helper.make_tensor_value_info("y", target, list(x.shape))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)])
    with gossamer.compile(model, out=folder / "artifact", verify=False).session() as session:
        return np.asarray(session.run(None, {"x": x})[0])


def same(got: Array, expected: Array) -> bool:
    return np.array_equal(got.astype(np.float32), expected.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_every_small_float_is_read_as_it_is(name: str, tmp_path: Path) -> None:
    bits = 8 * raw_type(name).itemsize
    count = 16 if name.startswith("float4") else 1 << bits
    words = np.arange(count, dtype=f"uint{bits}").view(dtype_of(name))
    got = cast(words, np.dtype(np.float32), tmp_path)
    assert got.dtype == np.float32
    assert same(got, words)


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_floats_are_rounded_to_nearest_and_ties_to_even(name: str, tmp_path: Path) -> None:
    x = np.concatenate([EDGES, -EDGES, np.random.default_rng(1).standard_normal(500).astype(np.float32)])
    with np.errstate(all="ignore"):
        expected = x.astype(dtype_of(name))
    assert same(cast(x, dtype_of(name), tmp_path, saturate=0), expected)


@pytest.mark.parametrize("name", SMALL_INTEGERS)
def test_integers_keep_their_lowest_bits(name: str, tmp_path: Path) -> None:
    x = np.arange(-40, 40, dtype=np.int32)
    bits, signed = int(name[-1]), not name.startswith("u")
    low = x & ((1 << bits) - 1)
    expected = np.where(signed & (low >= 1 << (bits - 1)), low - (1 << bits), low)
    got = cast(x, dtype_of(name), tmp_path)
    assert got.dtype == dtype_of(name)
    assert np.array_equal(got.astype(np.int32), expected)


def test_raw_words_may_be_fed(tmp_path: Path) -> None:
    x = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    info = [helper.make_tensor_value_info(name, kind, [2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    with gossamer.compile(model, out=tmp_path / "a", verify=False).session() as session:
        assert session.get_inputs()[0].type == "tensor(bfloat16)"
        assert same(session.run(None, {"x": x.view(np.uint16)})[0], -x)
