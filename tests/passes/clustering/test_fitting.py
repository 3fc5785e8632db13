"""Palettes of whole weights: what each option gives, and that errors are made up for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gossamer.kernels.formats import find_format
from gossamer.kernels.formats.palette import parse_palette
from gossamer.passes.clustering.fitting import Settings, fit_palette
from gossamer.passes.clustering.inputs import Assumed, Measured

Singles = npt.NDArray[np.float32]
FORMAT = find_format("palette")


def drawn(*shape: int, seed: int = 0) -> Singles:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def correlated(count: int, inputs: int, seed: int = 0) -> Singles:
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, inputs // 4)) @ rng.standard_normal((inputs // 4, inputs))
    return np.maximum(mixed + rng.standard_normal((count, inputs)), 0).astype(np.float32)


def output_error(weight: Singles, decoded: Any, rows: Singles) -> float:
    return float((((weight - decoded).reshape(len(weight), -1) @ rows.T) ** 2).mean())


OPTIONS: list[dict[str, Any]] = [
    {},
    {"channel_scale": True},
    {"group_rows": 8},
    {"group_rows": 8, "block_columns": 20},
    {"vector": 2, "bits": 6},
    {"vector": 4, "bits": 8, "group_rows": 16},
    {"vector": 8, "bits": 8, "books": 2},
    {"books": 2, "bits": 2},
    {"lut": "int8"},
    {"lut": "float32"},
    {"lut": "int8", "books": 2, "group_rows": 16},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(24, 40), (13, 5, 3, 3), (7, 11)])
@pytest.mark.parametrize("data", [False, True])
def test_what_is_stored_is_what_was_fitted(
    options: dict[str, Any], shape: tuple[int, ...], data: bool
) -> None:
    weight = drawn(*shape)
    rows = Measured(correlated(200, weight[0].size), 1, weight[0, 0].size) if data else None
    settings = Settings(**{"bits": 4} | options)
    fitted = fit_palette(weight, settings, rows)
    palette = parse_palette(fitted.parts)
    assert palette.form == settings.form(shape)
    np.testing.assert_array_equal(palette.codes, fitted.codes)
    lost = (palette.decode() - weight).astype(np.float64) ** 2
    if not data:
        assert lost.sum() / (weight.astype(np.float64) ** 2).sum() == pytest.approx(fitted.error, rel=1e-3)
    again = fit_palette(weight.copy(), settings, rows)
    assert all(part.tobytes() == again.parts[name].tobytes() for name, part in fitted.parts.items())


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("lut", ["float16", "float32", "int8"])
def test_every_index_is_the_nearest_of_the_rounded_entries(bits: int, lut: Any) -> None:
    weight = drawn(20, 30)
    parts = fit_palette(weight, Settings(bits, lut=lut)).parts
    palette = parse_palette(parts)
    assert parts["lut"].dtype == np.dtype(lut)
    distance = np.abs(weight[..., None] - palette.tables.reshape(-1)).min(axis=-1)
    np.testing.assert_array_equal(np.abs(palette.decode() - weight), distance)


@pytest.mark.parametrize("options", OPTIONS)
def test_more_bits_lose_less(options: dict[str, Any]) -> None:
    weight = drawn(32, 64)
    few, many = (fit_palette(weight, Settings(**options | {"bits": bits})).error for bits in (2, 5))
    assert many < few / 2


def test_finer_tables_and_scales_lose_less() -> None:
    weight = drawn(32, 64) * np.linspace(0.1, 3, 32, dtype=np.float32)[:, None]
    plain = fit_palette(weight, Settings(3)).error
    assert fit_palette(weight, Settings(3, channel_scale=True)).error < plain
    assert fit_palette(weight, Settings(3, group_rows=4)).error < plain


def test_residual_codebooks_lose_less_than_one() -> None:
    weight = drawn(32, 64)
    one = fit_palette(weight, Settings(4, vector=4)).error
    two = fit_palette(weight, Settings(4, vector=4, books=2)).error
    assert two < one


def test_vectors_lose_less_than_single_weights_of_as_many_bits() -> None:
    """At one bit per weight: 2 values, or 16 vectors of 4 correlated weights."""
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((16, 1, 64)) + 0.3 * rng.standard_normal((16, 4, 64))).reshape(64, 64)
    single = weight.astype(np.float32)
    vectors = fit_palette(single, Settings(4, vector=4)).error
    assert vectors < 0.7 * fit_palette(single, Settings(1)).error


@pytest.mark.parametrize("options", [*OPTIONS, {"bits": 3}, {"bits": 2, "channel_scale": True}])
def test_compensation_loses_less_at_the_outputs(options: dict[str, Any]) -> None:
    weight, rows = drawn(24, 64), correlated(600, 64)
    settings = Settings(**options | {"bits": min(options.get("bits", 4), 4)})
    with_it, without = (
        output_error(weight, FORMAT.decode(fit_palette(weight, s, Measured(rows, 1, 1)).parts), rows)
        for s in (settings, replace(settings, compensate=False))
    )
    assert with_it < 0.8 * without


def test_inputs_that_matter_more_are_kept_better() -> None:
    weight, rows = drawn(16, 64), drawn(400, 64, seed=1)
    rows[:, 32:] *= 0.05
    settings = Settings(2, compensate=False)
    known = Measured(rows, 1, 1)
    weighted = output_error(weight, FORMAT.decode(fit_palette(weight, settings, known).parts), rows)
    assert weighted < output_error(weight, FORMAT.decode(fit_palette(weight, settings).parts), rows)


def test_each_group_of_a_convolution_is_made_up_for_with_its_own_inputs() -> None:
    weight = drawn(12, 5, 3, 3)
    rows = np.concatenate([correlated(400, 48, seed)[:, :45] for seed in range(4)], axis=1)
    settings, known = Settings(3), Measured(rows, 4, 9)

    def error(decoded: Any) -> float:
        parts = zip(
            weight.reshape(4, 3, 45), decoded.reshape(4, 3, 45), np.split(rows, 4, axis=1), strict=True
        )
        return sum(output_error(w, d, r) for w, d, r in parts)

    with_it = error(FORMAT.decode(fit_palette(weight, settings, known).parts))
    plain = replace(settings, compensate=False)
    assert with_it < 0.8 * error(FORMAT.decode(fit_palette(weight, plain, known).parts))


def test_zeros_stay_zero() -> None:
    weight, rows = drawn(16, 32), correlated(300, 32)
    weight[drawn(16, 32, seed=3) > 0] = 0
    for data in (None, Measured(rows, 1, 1)):
        decoded = FORMAT.decode(fit_palette(weight, Settings(3), data, keep_zeros=True).parts)
        assert (decoded[weight == 0] == 0).all()
        assert len(np.unique(decoded)) == 8


@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize("lut", ["float16", "float32", "int8"])
@pytest.mark.parametrize("scaled", [False, True])
def test_weights_of_any_size_are_stored_as_well(factor: float, lut: Any, scaled: bool) -> None:
    weight = drawn(16, 32)
    settings = Settings(4, lut=lut, channel_scale=scaled)
    usual = fit_palette(weight, settings).error
    fitted = fit_palette(weight * np.float32(factor), settings)
    assert fitted.error == pytest.approx(usual, rel=0.1)


@pytest.mark.parametrize("data", [False, True])
def test_degenerate_weights(data: bool) -> None:
    for weight in (np.zeros((4, 6), np.float32), np.ones((4, 6), np.float32), drawn(1, 1), drawn(9, 1)):
        rows = Measured(np.zeros((50, weight.shape[1]), np.float32), 1, 1) if data else None
        for options in OPTIONS:
            fitted = fit_palette(weight, Settings(**{"bits": 4} | options), rows)
            assert np.isfinite(FORMAT.decode(fitted.parts)).all()


def smooth_images(count: int, channels: int, size: int, seed: int = 0) -> Singles:
    """Rectified images whose pixels resemble their neighbours, in windows of 3 x 3: [n, channels * 9]."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, channels, size + 6, size + 6))
    wide = np.lib.stride_tricks.sliding_window_view(noise, (5, 5), axis=(2, 3)).mean(axis=(4, 5)) * 5
    windows = np.lib.stride_tricks.sliding_window_view(np.maximum(wide, 0), (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * 9).astype(np.float32)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_what_is_assumed_of_images_loses_less_at_the_outputs(bits: int) -> None:
    weight, rows = drawn(24, 16, 3, 3), smooth_images(4, 16, 12)
    known = Assumed(16, (3, 3), (1, 1), rectified=True)
    with_it = output_error(weight, FORMAT.decode(fit_palette(weight, Settings(bits), known).parts), rows)
    without = output_error(weight, FORMAT.decode(fit_palette(weight, Settings(bits)).parts), rows)
    assert with_it < 0.6 * without


def test_nothing_is_assumed_of_products_of_values_of_any_sign() -> None:
    weight = drawn(24, 32)
    known = Assumed(32, (), (), rectified=False)
    assert known.grams() == []
    assert (
        fit_palette(weight, Settings(3), known).codes.tobytes()
        == fit_palette(weight, Settings(3)).codes.tobytes()
    )
