"""LSTM, GRU and RNN: hidden units around whole vectors, batches around tiles, both directions, lengths."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..drawing import extents, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]

OPERATORS = ("LSTM", "GRU", "GRU-before", "RNN")
DIRECTIONS = ("forward", "reverse", "bidirectional")


def layer(
    operator: str, direction: str, sizes: tuple[int, int, int, int], ends: bool = False, seed: int = 0
) -> Case:
    """(steps, batch, inputs, hidden); with `ends` rows are of different lengths, which are fed."""
    case = Case(f"layer{(operator, direction, sizes, ends, seed)}")
    steps, batch, inputs, hidden = sizes
    name, _, before = operator.partition("-")
    rows = {"LSTM": 4, "GRU": 3, "RNN": 1}[name] * hidden
    directions = 2 if direction == "bidirectional" else 1
    x = case.feed(random_array(seed, steps, batch, inputs))
    scale = np.float32(1 / np.sqrt(inputs + hidden))
    w, r = (case.weight(random_array(seed + n, directions, rows, n) * scale) for n in (inputs, hidden))
    given = [x, w, r, case.weight(random_array(seed + 1, directions, 2 * rows))]
    if ends:
        lengths = np.random.default_rng(seed).integers(1, steps + 1, batch)
        given.append(case.feed(lengths.astype(np.int32)))
    attributes = {"linear_before_reset": 1} if before else {}
    y = case.add(name, *given, direction=direction, hidden_size=hidden, **attributes)
    outputs = case.nodes[-1][2]
    return case.give(y, *outputs[1:])


def cases() -> st.SearchStrategy[Case]:
    """Every operator and direction, few steps."""
    sizes = st.tuples(st.integers(1, 4), extents(20), extents(12), extents(40))
    return st.builds(
        layer, st.sampled_from(OPERATORS), st.sampled_from(DIRECTIONS), sizes, st.booleans(), seeds
    )


def edges() -> list[Case]:
    """One of everything."""
    found = [layer(operator, "forward", (3, 1, 4, 17)) for operator in OPERATORS]
    found += [layer(operator, "bidirectional", (3, 7, 3, 16), True, 1) for operator in OPERATORS]
    return [*found, layer("LSTM", "reverse", (2, 1, 1, 1)), layer("GRU", "reverse", (1, 13, 5, 33), seed=2)]
