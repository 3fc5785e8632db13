"""Each way to choose a range, on distributions whose answer is known."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from gossamer.kernels.quantization import dequantize_linear, quantize_linear
from gossamer.passes.quantizing.grid import activation_grid, quantize_rows, weight_grid
from gossamer.passes.quantizing.histogram import Histogram
from gossamer.passes.quantizing.ranges import Method, range_of

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal(200_000).astype(np.float32)


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram()
    found.add(values.astype(np.float32))
    return found


def error(values: np.ndarray, low: float, high: float) -> float:
    grid = activation_grid(low, high)
    back = dequantize_linear(
        quantize_linear(values, grid.scale, grid.zero_point), grid.scale, grid.zero_point
    )
    return float(np.mean((back.astype(np.float64) - values) ** 2))


@pytest.mark.parametrize("method", get_args(Method))
def test_a_uniform_distribution_keeps_its_range(method: Method) -> None:
    values = RNG.uniform(0, 6, 100_000)
    low, high = range_of(histogram(values), method)
    assert low == 0
    assert high == pytest.approx(6, rel=0.02)


def test_min_max_covers_every_value() -> None:
    assert range_of(histogram(NORMAL), "min-max") == (float(NORMAL.min()), float(NORMAL.max()))


def test_a_percentile_leaves_out_that_share_at_each_end() -> None:
    low, high = range_of(histogram(NORMAL), "percentile", 99.0)
    assert (low, high) == pytest.approx((-2.326, 2.326), abs=0.03)
    assert range_of(histogram(np.abs(NORMAL)), "percentile", 99.0)[0] == 0


def test_the_squared_error_is_the_least_of_all_ranges() -> None:
    values = RNG.standard_t(2, 100_000).astype(np.float32) - np.float32(0.5)
    low, high = range_of(histogram(values), "squared-error")
    best = error(values, low, high)
    tried = [(a * values.min(), b * values.max()) for a in np.geomspace(0.01, 1, 25) for b in (1.0, 0.1)]
    tried += [(low * a, high * b) for a in (0.8, 1.25) for b in (0.8, 1.25)]
    assert best <= min(error(values, *ends) for ends in tried) * 1.05
    assert best < 0.9 * error(values, float(values.min()), float(values.max()))


def test_entropy_cuts_single_values_off_and_keeps_the_bulk() -> None:
    values = np.concatenate([NORMAL, [40.0, -40.0]])
    low, high = range_of(histogram(values), "entropy")
    assert 2.5 < high < 10
    assert -10 < low < -2.5


@pytest.mark.parametrize("method", get_args(Method))
def test_constants_and_zeros_have_a_grid(method: Method) -> None:
    for value in (0.0, 3.5, -2.0):
        found = activation_grid(*range_of(histogram(np.full(10, value)), method))
        integers = quantize_linear(np.full(1, value, np.float32), found.scale, found.zero_point)
        back = dequantize_linear(integers, found.scale, found.zero_point)
        assert back[0] == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("ends", [(-1.0, 3.0), (0.0, 5.0), (-2.0, 0.0), (1.0, 2.0), (-1e-30, 1e-30)])
def test_grids_hold_zero_and_cover_their_range(
    dtype: str, symmetric: bool, ends: tuple[float, float]
) -> None:
    grid = activation_grid(*ends, dtype, symmetric=symmetric)  # type: ignore[arg-type]
    assert grid.dtype == dtype
    values = np.array([0.0, *ends], np.float32)
    back = dequantize_linear(
        quantize_linear(values, grid.scale, grid.zero_point), grid.scale, grid.zero_point
    )
    assert back[0] == 0
    assert np.abs(back - values).max() <= grid.scale * 0.5001
    if symmetric:
        assert int(grid.zero_point) in {0, 128}


def test_weights_have_a_scale_for_each_output_or_one() -> None:
    weight = np.array([[1.0, -2.0], [0.0, 0.0], [0.25, 0.1]], np.float32)
    grid = weight_grid(weight)
    np.testing.assert_allclose(grid.scale, [2 / 127, 1, 0.25 / 127], rtol=1e-6)
    assert quantize_rows(weight, grid).tolist() == [[64, -127], [0, 0], [127, 51]]
    assert weight_grid(weight, per_channel=False).scale == np.float32(2 / 127)
