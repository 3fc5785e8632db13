"""SpQR's rounding: planted outliers are found, errors are made up for, fewer bits beat plain rounding."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.kernels.formats.base import Array
from gossamer.kernels.formats.outliers import largest, outlier_places
from gossamer.kernels.group_grid import GroupForm
from gossamer.passes.grouped_rounding import inverse_factor, outlier_scores, round_groups
from gossamer.passes.storing import Stored


def heavy_tailed(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_t(3, shape).astype(np.float32)


def correlated(seed: int, count: int, width: int) -> Array:
    """Rows that span an eighth of their space, and some noise."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, width // 8)) @ rng.standard_normal((width // 8, width))
    rows: Array = (mixed + 0.3 * rng.standard_normal((count, width))).astype(np.float32)
    return rows


def round_to_nearest(weight: Array, bits: int, group: int) -> tuple[Array, float]:
    """Plain asymmetric rounding with a float16 scale and zero for each group; and bits per weight."""
    blocks = weight.reshape(-1, group)
    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    scale = (high - low) / (2**bits - 1)
    rounded = np.rint((blocks - low) / scale) * scale + low
    return rounded.reshape(weight.shape), bits + 32 / group


def test_planted_spikes_are_found_and_little_else() -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((512, 512)).astype(np.float32)
    spikes = rng.random(weight.shape) < 0.01
    together = spikes.reshape(512, 32, 16).sum(axis=2).max()
    assert 2 < together <= 4  # of one group: more are not looked for
    weight[spikes] = rng.choice([-1, 1], spikes.sum()) * rng.uniform(8, 16, spikes.sum())
    found = largest(outlier_scores(weight, np.ones(512), 16), 0.012)
    assert found[spikes].all()
    assert found[~spikes].mean() < 0.02
    stored = round_groups(weight, None, GroupForm(), 0.012)
    base = stored.parts["base"]
    assert isinstance(base, Stored)
    places = outlier_places({**stored.parts, "base": base.decode()})  # type: ignore[dict-item]
    assert np.isin(np.flatnonzero(spikes), places).all()


def test_scores_are_what_leaving_out_saves_of_the_squared_range() -> None:
    group = np.array([[1, -1, 9, 2]], np.float32)
    scores = outlier_scores(group, np.full(4, 0.25), 4)
    assert scores[0, 2] == (9 + 1) ** 2 - (2 + 1) ** 2  # the spike; then 2 beside it
    assert scores[0, 3] == (2 + 1) ** 2 - (1 + 1) ** 2
    both = outlier_scores(np.array([[8, 8, 0, 0]], np.float32), np.full(4, 0.25), 4)
    assert both.tolist() == [[32, 32, 0, 0]]  # neither alone saves anything


@pytest.mark.parametrize("group", [256, 128])
def test_three_bits_and_outliers_beat_four_bits_to_the_nearest_at_fewer_bits(group: int) -> None:
    weight = heavy_tailed(1, 256, 256)
    stored = round_groups(weight, None, GroupForm(), 0.01)
    rounded, bits = round_to_nearest(weight, 4, group)
    assert stored.bits_per_weight(weight.size) < bits
    assert np.linalg.norm(stored.decode() - weight) < np.linalg.norm(rounded - weight)


def test_bytes_are_those_of_the_formula() -> None:
    weight = heavy_tailed(2, 512, 512)
    stored = round_groups(weight, None, GroupForm(), 0.01)
    wanted = GroupForm().bits_per_weight + (8 + 16) * len(stored.parts["gaps"]) / weight.size  # type: ignore[arg-type]
    assert stored.bits_per_weight(weight.size) == pytest.approx(wanted, rel=0.01)
    assert stored.bits_per_weight(weight.size) < 3.945  # the published layout of outliers takes 32 bits each


@pytest.mark.parametrize("outliers", [0.0, 0.01])
def test_rows_of_the_layer_make_its_outputs_better(outliers: float) -> None:
    weight, rows = heavy_tailed(3, 64, 96), correlated(3, 400, 96)
    seen, fresh = rows[:200], rows[200:]

    def error(stored: Stored) -> float:
        return float(np.linalg.norm(fresh @ (stored.decode() - weight).T))

    informed = error(round_groups(weight, seen, GroupForm(), outliers))
    assert informed < 0.6 * error(round_groups(weight, None, GroupForm(), outliers))


def test_outliers_hold_what_error_propagation_left_of_them() -> None:
    weight, rows = heavy_tailed(4, 32, 48), correlated(4, 100, 48)
    stored = round_groups(weight, rows, GroupForm(), 0.05)
    plain = Stored("spqr", stored.parts["base"].parts)  # type: ignore[union-attr]
    gain = np.linalg.norm(rows @ (stored.decode() - weight).T)
    assert gain < 0.8 * np.linalg.norm(rows @ (plain.decode() - weight).T)


def test_the_factor_is_that_of_the_inverse_second_moments() -> None:
    rows = correlated(5, 50, 24)
    factor = inverse_factor(rows)
    moments = rows.astype(np.float64).T @ rows / len(rows)
    moments += 0.01 * np.trace(moments) / 24 * np.eye(24)
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(moments), rtol=1e-6, atol=1e-9)
    assert np.array_equal(factor, np.triu(factor))


def test_rows_of_zeros_and_a_weight_of_zeros_do_no_harm() -> None:
    weight = heavy_tailed(6, 8, 20)
    stored = round_groups(weight, np.zeros((5, 20), np.float32), GroupForm(), 0.0)
    assert stored.decode().tobytes() == round_groups(weight, None, GroupForm(), 0.0).decode().tobytes()
    assert not round_groups(np.zeros((8, 20), np.float32), None, GroupForm(), 0.0).decode().any()


def test_the_same_input_gives_the_same_bytes() -> None:
    weight, rows = heavy_tailed(7, 40, 50), correlated(7, 60, 50)
    first, second = (round_groups(weight, rows, GroupForm(), 0.02).decode() for _ in range(2))
    assert first.tobytes() == second.tobytes()
