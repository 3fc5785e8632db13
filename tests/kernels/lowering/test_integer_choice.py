"""Integer products skip zeros, or are transformed, where that is estimated to be faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gossamer.kernels.cpu.integer_dot import Dot, integer_dot
from gossamer.kernels.cpu.integer_product import Reach
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.cpu.pixel_layout import pixel_strides
from gossamer.kernels.cpu.tensor import Tensor
from gossamer.kernels.lowering.integer_sparse import sparse_plan
from gossamer.kernels.lowering.integer_winograd import winograd_plan
from gossamer.kernels.targets import find_target

Array = np.ndarray[Any, np.dtype[Any]]
TARGETS = ("x86-64-v4-vnni", "x86-64-v3", "wasm", "arm64-linux-dotprod")


def dot_of(name: str, weights: tuple[int, int] = (-127, 127)) -> Dot:
    target = find_target(name)
    return integer_dot(Isa(target, next(iter(target.variants))), "uint8", weights)


def pruned(outputs: int, inputs: int, share: float, height: int = 4, width: int = 4) -> Array:
    rng = np.random.default_rng(0)
    kept = rng.random((outputs // height, inputs // width)) >= share
    mask = kept.repeat(height, 0).repeat(width, 1)
    return np.where(mask, rng.integers(1, 127, (outputs, inputs)), 0)


def flat(pixels: int, inputs: int) -> Reach:
    return Reach((1, pixels, 1), (0, inputs, 0), (), inputs)


@pytest.mark.parametrize("target", TARGETS)
def test_most_zeros_in_blocks_are_skipped(target: str) -> None:
    plan = sparse_plan(dot_of(target), flat(196, 512), pruned(512, 512, 0.8))
    assert plan is not None
    assert plan.rows == 4
    assert 0.15 < plan.kept < 0.25


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("pixels", "weights"),
    [
        pytest.param(196, pruned(512, 512, 0.05), id="few zeros"),
        pytest.param(196, pruned(512, 512, 0.8, 1, 1), id="zeros that fill no block"),
        pytest.param(196, pruned(64, 16, 0.8), id="few inputs for the turning of a pixel"),
        pytest.param(2, pruned(512, 512, 0.8), id="fewer pixels than lanes"),
    ],
)
def test_weights_stay_dense_where_that_is_faster(target: str, pixels: int, weights: Array) -> None:
    assert sparse_plan(dot_of(target), flat(pixels, weights.shape[1]), weights) is None


def test_instructions_that_lanes_cannot_share_have_no_sparse_kernel() -> None:
    assert sparse_plan(dot_of("arm64-linux"), flat(196, 512), pruned(512, 512, 0.8)) is None


def image(channels: int, height: int, width: int) -> Tensor:
    shape = (1, channels, height, width)
    return Tensor("image", "uint8", shape, pixel_strides(shape), "arena")


def planned(target: str, channels: int = 64, outputs: int = 64, stride: int = 1, weight: int = 20) -> Any:
    source, out = image(channels, 16, 16), image(outputs, 14 // stride, 14 // stride)
    _, _, row, pixel = source.strides
    reach = Reach(
        (1, out.shape[2], out.shape[3]),
        (source.strides[0], stride * row, stride * pixel),
        ((3, row), (3, pixel)),
        channels,
    )
    steps = (out.strides[0], out.strides[2], out.strides[3])
    matrix = np.full((1, outputs, 9, channels), weight)
    return winograd_plan(dot_of(target, (-128, 127)), source, out, steps, reach, matrix)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "wasm"])
def test_windows_of_nine_are_transformed_where_products_are_of_pairs(target: str) -> None:
    plan = planned(target)
    assert plan is not None
    assert plan.taps.shape == (64, 64, 3, 3)


@pytest.mark.parametrize("target", ["x86-64-v4-vnni", "arm64-linux-dotprod", "arm64-linux"])
def test_nothing_is_transformed_where_four_bytes_are_summed_at_once(target: str) -> None:
    assert planned(target) is None


@pytest.mark.parametrize(
    "options", [{"channels": 16}, {"outputs": 16}, {"stride": 2}, {"channels": 2048, "weight": 127}]
)
def test_small_strided_and_overflowing_convolutions_are_not_transformed(options: dict[str, int]) -> None:
    assert planned("wasm", **options) is None
