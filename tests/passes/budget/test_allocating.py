"""The greedy allocation takes the cheapest steps and stays within the size; convex candidates: optimal."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.passes.budget.allocating import Candidate, greedy
from gossamer.passes.budget.levels import Level

LEVEL = Level("l", {})


def candidates(node: str, pairs: list[tuple[int, float]]) -> list[Candidate]:
    """The first pair is the layer as it is."""
    return [Candidate(node, LEVEL if i else None, size, error) for i, (size, error) in enumerate(pairs)]


def total(chosen: dict[str, Candidate]) -> tuple[int, float]:
    return sum(c.bytes for c in chosen.values()), sum(c.error for c in chosen.values())


def test_the_robust_layer_is_compressed_first() -> None:
    own = {
        "fragile": candidates("fragile", [(100, 0.0), (50, 5.0)]),
        "robust": candidates("robust", [(100, 0.0), (50, 0.1)]),
    }
    path = greedy(own, 150)
    assert [total(chosen)[0] for chosen in path] == [200, 150]
    assert path[-1]["robust"].bytes == 50
    assert path[-1]["fragile"].level is None


def test_levels_above_the_hull_are_never_taken() -> None:
    own = {"a": candidates("a", [(100, 0.0), (60, 9.0), (50, 1.0), (20, 2.0)])}
    assert [chosen["a"].bytes for chosen in greedy(own, 0)] == [100, 50, 20]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(0.01, 10), min_size=3, max_size=3), min_size=1, max_size=4), st.floats(0.2, 1)
)
def test_what_is_found_is_the_best_of_its_size(costs: list[list[float]], share: float) -> None:
    own = {}
    for i, prices in enumerate(costs):
        errors = np.cumsum([0.0, *sorted(prices)])  # rising prices: every level is on the hull
        own[f"n{i}"] = candidates(f"n{i}", [(40 - 10 * j, float(e)) for j, e in enumerate(errors)])
    size, error = total(greedy(own, round(40 * len(costs) * share))[-1])
    best = min(
        total(dict(enumerate(each)))[1]  # type: ignore[arg-type]
        for each in product(*own.values())
        if sum(c.bytes for c in each) <= size
    )
    assert error == pytest.approx(best)
