"""group-int, group-float4, dual-grain: numpy and onnxruntime decode alike; hostile parts are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.dual_grain import parse_dual_grain
from gossamer.kernels.formats.group_float4 import VALUES
from gossamer.runtime.errors import ModelError, OptionError

from .decoding import decode_with_onnxruntime

SHAPES = ((1, 1), (3, 7), (5, 40), (4, 3, 3, 3), (2, 64))


def weight_of(name: str, shape: tuple[int, ...]) -> Array:
    rng = np.random.default_rng((len(name), *shape))
    if name == "dual-grain":
        return rng.integers(-127, 128, shape).astype(np.int8)
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(
            ("group-int", {"bits": bits, "group": group})
            for bits, group in ((1, 16), (2, 5), (3, 32), (8, 16))
        ),
        *(("group-float4", {"group": group}) for group in (4, 32)),
        *(("dual-grain", {"group": group}) for group in (4, 32)),
    ],
)
def test_onnxruntime_decodes_the_same_bits(
    name: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    kind, weight = find_format(name), weight_of(name, shape)
    parts = kind.encode(weight, **options)
    assert list(parts) == list(kind.parts)
    decoded = kind.decode(parts)
    element = onnx.helper.np_dtype_to_tensor_dtype(decoded.dtype)
    found = decode_with_onnxruntime(kind, parts, len(shape), element)
    assert decoded.shape == shape
    assert (found.dtype, found.tobytes()) == (decoded.dtype, decoded.tobytes())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_integers_are_off_by_half_a_step(bits: int) -> None:
    weight = weight_of("group-int", (6, 50))
    kind = find_format("group-int")
    parts = kind.encode(weight, bits=bits, group=16)
    own = np.arange(50) // 16
    # the zero point is rounded too
    assert (np.abs(kind.decode(parts) - weight) <= 1.001 * parts["scale"].astype(np.float32)[:, own]).all()
    assert parts["quantized"].nbytes == -(-6 * 50 * bits // 8)


def test_float4_holds_its_own_values_in_every_binade() -> None:
    weight = np.stack([np.roll(VALUES, 3) * np.float32(2.0**-shift) for shift in range(16)]).reshape(1, -1)
    kind = find_format("group-float4")
    parts = kind.encode(weight.astype(np.float32), group=16)
    assert parts["shift"].tolist() == [shift | shift + 1 << 4 for shift in range(0, 16, 2)]
    np.testing.assert_array_equal(kind.decode(parts), weight)


def test_dual_grain_stays_in_8_bits_and_near_the_weight() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (8, 96)).astype(np.int8)
    kind = find_format("dual-grain")
    parts = kind.encode(weight, group=32)
    wide = parse_dual_grain(parts).wide()
    assert np.abs(wide).max() <= 127
    assert np.abs(wide - weight).max() <= 2 * int(parts["scale"].max())
    x = rng.integers(-128, 128, (5, 96))
    np.testing.assert_array_equal(x @ wide.T, x @ kind.decode(parts).astype(np.int64).T)


def broken(name: str) -> list[dict[str, Array]]:
    """What must be refused, part by part."""
    huge = {"shape": np.array([2**40, 2**40], np.int64)}
    form = [2] if name != "group-int" else [3, 2]
    return [
        huge,
        {"shape": np.array([0, 40], np.int64)},
        {"shape": np.array([5, 41], np.int64)},
        {"shape": np.array([5.0, 40.0])},
        {"form": np.zeros(len(form), np.int64)},
        {"form": np.array([*form, 7], np.int64)},
        {"form": np.array([-16] * len(form), np.int64)},
        {"quantized": np.zeros(3, np.uint8)},
        {"quantized": np.zeros((2, 2), np.uint8)},
        {"scale": np.ones((5, 9), np.int8 if name == "dual-grain" else np.float32)},
        {"scale": np.zeros((5, 2), np.int8) if name == "dual-grain" else np.full((5, 2), np.nan, np.float32)},
        {{"group-float4": "shift"}.get(name, "zero"): np.zeros(99, np.uint8)},
    ]


@pytest.mark.parametrize("name", ["group-int", "group-float4", "dual-grain"])
def test_parts_that_contradict_each_other_are_refused(name: str) -> None:
    kind = find_format(name)
    parts = kind.encode(weight_of(name, (5, 40)), group=20)
    for change in broken(name):
        with pytest.raises(ModelError):
            kind.decode({**parts, **change})


def test_a_group_may_be_longer_than_any_memory() -> None:
    kind = find_format("group-int")
    parts = kind.encode(weight_of("group-int", (5, 40)), group=40)
    longer = {**parts, "form": np.array([3, 2**60], np.int64)}
    np.testing.assert_array_equal(kind.decode(longer), kind.decode(parts))


def test_products_beyond_8_bits_are_refused() -> None:
    kind = find_format("dual-grain")
    parts = kind.encode(weight_of("dual-grain", (5, 40)), group=20)
    with pytest.raises(ModelError, match="does not fit int8"):
        kind.decode({**parts, "scale": np.full((5, 2), 127, np.int8)})


@pytest.mark.parametrize("name", ["group-int", "group-float4", "dual-grain"])
def test_what_cannot_be_stored_is_refused(name: str) -> None:
    kind, weight = find_format(name), weight_of(name, (5, 40))
    for array, options in (
        (weight, {"group": 0}),
        (weight, {"width": 3}),
        (weight.astype(np.float64), {}),
        (weight[0], {}),
        (weight[:0], {}),
    ):
        with pytest.raises(OptionError):
            kind.encode(array, **options)
