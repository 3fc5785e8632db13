"""Marginal allocation meets its target, and loses little more than the best of all choices."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gossamer.passes.low_rank.allocation import Sized, allocate
from gossamer.passes.low_rank.curve import Curve


def layer(rng: np.random.Generator, count: int) -> Sized:
    costs = np.sort(rng.choice(np.arange(10, 100), count, replace=False))
    errors = np.sort(rng.random(count))[::-1].copy()
    sizes = [(i + 1,) for i in range(count)]
    return Sized([Curve("svd", sizes, costs, costs, errors)], [costs], 100)


@pytest.mark.parametrize("seed", range(8))
def test_no_choice_is_much_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = [layer(rng, 5) for _ in range(4)]
    tables = [sized.points()[0] for sized in layers]
    target = 240
    picks = allocate(layers, target)
    cost = sum(100 if pick is None else pick.cost for pick in picks)
    error = sum(0.0 if pick is None else pick.error for pick in picks)
    assert cost <= target
    choices = (np.sum(rows, axis=0) for rows in product(*tables))
    best = min(total[1] for total in choices if total[0] <= target)
    assert best - 1e-9 <= error <= best + 0.35
    for number, (table, pick) in enumerate(zip(tables, picks, strict=True)):
        own = 100 if pick is None else pick.cost
        now = 0.0 if pick is None else pick.error
        better = table[(table[:, 0] <= own + target - cost) & (table[:, 1] < now)]
        assert not len(better), f"layer {number} could lose less within the target"


def test_what_cannot_be_reached_is_approached() -> None:
    layers = [layer(np.random.default_rng(9), 3) for _ in range(3)]
    picks = allocate(layers, 1)
    assert [pick is not None and pick.index for pick in picks] == [0, 0, 0]
    assert allocate(layers, 300) == [None, None, None]
