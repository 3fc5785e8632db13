"""Elementwise chains with broadcasts, moved elements, and scattered ones."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from ..drawing import extents, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]

FUNCTIONS = (
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "Erf",
    "HardSigmoid",
    "HardSwish",
    "Gelu",
    "Neg",
    "Abs",
    "Exp",
)
PAIRS = ("Add", "Sub", "Mul", "Max", "Min")


def chain(shape: tuple[int, ...], functions: tuple[str, ...], pair: str, spread: int, seed: int = 0) -> Case:
    """`functions` one after another, then `pair` with an input whose axes in the bits of `spread` are 1."""
    case = Case(f"chain{(shape, functions, pair, spread, seed)}")
    y = case.feed(random_array(seed, *shape))
    for name in functions:
        y = case.add(name, y)
    other = tuple(1 if spread >> i & 1 else n for i, n in enumerate(shape))
    return case.give(case.add(pair, y, case.feed(random_array(seed + 1, *other))))


def moved(shape: tuple[int, int, int], perm: tuple[int, int, int], room: int, seed: int = 0) -> Case:
    """Transposed, padded, gathered and joined to itself."""
    case = Case(f"moved{(shape, perm, room, seed)}")
    x = case.add("Transpose", case.feed(random_array(seed, *shape)), perm=list(perm))
    padded = case.add("Pad", x, case.weight(np.array([0, room, 0, 0, 1, room], np.int64)))
    rows = case.values[padded].shape[1]
    places = np.random.default_rng(seed).integers(-rows, rows, 5)
    picked = case.add("Gather", padded, case.weight(places.astype(np.int64)), axis=1)
    return case.give(case.add("Concat", padded, picked, axis=1), case.add("Relu", picked))


def scattered(shape: tuple[int, int, int], count: int, add: bool, seed: int = 0) -> Case:
    """Rows replaced at distinct places, or added to at any."""
    case = Case(f"scattered{(shape, count, add, seed)}")
    rng = np.random.default_rng(seed)
    flat = rng.choice(shape[0] * shape[1], count, replace=add)
    places = np.stack(np.unravel_index(flat, shape[:2]), -1).astype(np.int64)
    operands = [case.feed(random_array(seed, *shape)), case.feed(places)]
    updates = case.feed(random_array(seed + 1, count, shape[2]))
    reduction = "add" if add else "none"
    return case.give(case.add("ScatterND", *operands, updates, reduction=reduction))


@st.composite
def _shapes(draw: st.DrawFn, least: int, most: int) -> tuple[int, ...]:
    shape: tuple[int, ...] = ()
    for _ in range(draw(st.integers(least, most))):
        shape = (*shape, draw(extents(max(1, min(70, 3000 // prod(shape))))))
    return shape


@st.composite
def _chain(draw: st.DrawFn) -> Case:
    functions = draw(st.lists(st.sampled_from(FUNCTIONS), min_size=0, max_size=3))
    if functions.count("Exp") > 1:
        functions = [f for f in functions if f != "Exp"]
    return chain(
        draw(_shapes(1, 4)),
        tuple(functions),
        draw(st.sampled_from(PAIRS)),
        draw(st.integers(0, 15)),
        draw(seeds),
    )


@st.composite
def _moved(draw: st.DrawFn) -> Case:
    shape = draw(_shapes(3, 3))
    perm = draw(st.permutations(range(3)))
    return moved(
        (shape[0], shape[1], shape[2]), (perm[0], perm[1], perm[2]), draw(st.integers(0, 3)), draw(seeds)
    )


@st.composite
def _scattered(draw: st.DrawFn) -> Case:
    shape = draw(_shapes(3, 3))
    count = draw(st.integers(1, shape[0] * shape[1]))
    return scattered((shape[0], shape[1], shape[2]), min(count, 40), draw(st.booleans()), draw(seeds))


def cases() -> st.SearchStrategy[Case]:
    """Chains half of the time."""
    return st.one_of(_chain(), _chain(), _moved(), _scattered())


def edges() -> list[Case]:
    """Every function, every pair, sides of a vector."""
    found = [chain((3, 5 + 4 * i), (f,), PAIRS[i % 5], i % 4, i) for i, f in enumerate(FUNCTIONS)]
    found += [chain((1,), (), "Add", 0), chain((2, 3, 1, 33), ("Relu", "Sigmoid"), "Mul", 5)]
    found += [moved((3, 17, 5), (2, 0, 1), 2), moved((1, 1, 1), (0, 1, 2), 0), moved((9, 8, 7), (0, 2, 1), 1)]
    found += [scattered((3, 5, 17), 4, False), scattered((2, 3, 9), 11, True), scattered((1, 1, 1), 1, False)]
    return found
