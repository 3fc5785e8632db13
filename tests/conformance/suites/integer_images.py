"""Integers between convolutions: pooling, sums, products, joins, resizes, and functions of one value."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ..drawing import extents, planes, seeds
from ..graphs import Case
from ..integers import ACTIVATIONS, ZEROS, activation, floats, quantised, stored_weights, zero_points

__all__ = ["SAMPLED", "cases", "edges"]

SAMPLED = 4  # one of so many edges runs on other machines by default
FUNCTIONS = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Erf", "Abs", "Exp")


def _convolved(case: Case, dtype: str, zeros: str, seed: int, channels: int, plane: tuple[int, int]) -> str:
    """An image that a convolution of integers gives."""
    x = activation(case, dtype, zeros, seed, 1, 5, *plane)
    w = stored_weights(case, "int8 without -128", seed, (channels, 5, 1, 1), 0, True)
    return floats(case, quantised(case, case.add("Conv", x, w), dtype, seed))


def _image(
    case: Case, given: bool, dtype: str, zeros: str, seed: int, channels: int, plane: tuple[int, int]
) -> str:
    """An image that is fed, or one that a convolution gives: they lie in memory in different ways."""
    if given:
        return activation(case, dtype, zeros, seed, 1, channels, *plane)
    return _convolved(case, dtype, zeros, seed, channels, plane)


def pooling(
    operator: str,
    channels: int,
    plane: tuple[int, int],
    given: bool,
    types: tuple[str, str] = ("uint8", "uint8"),
    zeros: str = "middle",
    seed: int = 0,
    **attributes: Any,
) -> Case:
    """A pool of an image, rounded again."""
    own = (operator, channels, plane, given, types, zeros, seed, attributes)
    case = Case(f"integer_pooling{own}")
    x = _image(case, given, types[0], zeros, seed, channels, plane)
    if operator == "GlobalAveragePool":
        axes = case.weight(np.array([2, 3], np.int64))
        y = case.add("ReduceMean", x, axes, keepdims=1)
    else:
        y = case.add(operator, x, **attributes)
    return case.give(quantised(case, y, types[1], seed))


def combined(
    operator: str,
    channels: tuple[int, int],
    plane: tuple[int, int],
    given: tuple[bool, bool],
    spread: bool = False,
    types: tuple[str, str] = ("uint8", "uint8"),
    zeros: str = "middle",
    after: str = "",
    seed: int = 0,
) -> Case:
    """Add, Mul or Concat of two images of different scales; `spread` has one pixel in the second."""
    case = Case(f"integer_combined{(operator, channels, plane, given, spread, types, zeros, after, seed)}")
    x = _image(case, given[0], types[0], zeros, seed, channels[0], plane)
    second = channels[1] if operator == "Concat" else channels[0]
    y = _image(case, given[1], types[0], zeros, seed + 1, second, (1, 1) if spread else plane)
    found = case.add(operator, x, y, axis=1) if operator == "Concat" else case.add(operator, x, y)
    found = case.add(after, found) if after else found
    return case.give(quantised(case, found, types[1], seed))


def function(
    names: tuple[str, ...],
    shape: tuple[int, ...],
    types: tuple[str, str] = ("uint8", "uint8"),
    zeros: str = "middle",
    seed: int = 0,
) -> Case:
    """Functions of one value, each rounded: what a table of 256 entries says."""
    case = Case(f"integer_function{(names, shape, types, zeros, seed)}")
    y = activation(case, types[0], zeros, seed, *shape)
    for name in names[:-1]:
        y = floats(case, quantised(case, case.add(name, y), types[0], seed))
    return case.give(quantised(case, case.add(names[-1], y), types[1], seed))


def rows(operator: str, shape: tuple[int, ...], types: tuple[str, str], zeros: str, seed: int = 0) -> Case:
    """Softmax or layer norm along the last axis."""
    case = Case(f"integer_rows{(operator, shape, types, zeros, seed)}")
    x = activation(case, types[0], zeros, seed, *shape)
    if operator == "Softmax":
        y = case.add("Softmax", x, axis=-1)
    else:
        own = [np.linspace(a, b, shape[-1], dtype=np.float32) for a, b in ((0.5, 1.5), (-0.3, 0.4))]
        y = case.add("LayerNormalization", x, *map(case.weight, own), axis=-1)
    return case.give(quantised(case, y, types[1], seed) if types[1] else y)


types = st.tuples(st.sampled_from(ACTIVATIONS), st.sampled_from(ACTIVATIONS))


@st.composite
def _pooling(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(("MaxPool", "AveragePool", "GlobalAveragePool")))
    side = draw(st.integers(1, 4))
    height, width = draw(planes())
    pads = [draw(st.integers(0, side - 1)) for _ in range(4)]
    own: dict[str, Any] = {
        "kernel_shape": [side, side],
        "strides": [draw(st.integers(1, 3)), draw(st.integers(1, 2))],
        "pads": pads,
    }
    own |= {"count_include_pad": draw(st.integers(0, 1))} if kind == "AveragePool" else {}
    own = {} if kind == "GlobalAveragePool" else own
    plane = (height + side, width + side)
    given, both = draw(st.booleans()), draw(types)
    return pooling(kind, draw(extents(40)), plane, given, both, draw(zero_points), draw(seeds), **own)


def cases() -> st.SearchStrategy[Case]:
    """All alike."""
    pairs = st.tuples(st.booleans(), st.booleans())
    both = st.builds(
        combined,
        st.sampled_from(("Add", "Mul", "Concat", "Sub")),
        st.tuples(extents(40), extents(40)),
        planes(),
        pairs,
        st.just(False),
        types,
        zero_points,
        st.sampled_from(("", "", "Relu", "Sigmoid")),
        seeds,
    )
    shapes = st.one_of(
        st.tuples(extents(), extents()), st.tuples(st.just(1), extents(20), extents(9), extents(9))
    )
    names = st.lists(st.sampled_from(FUNCTIONS), min_size=1, max_size=2).map(tuple)
    one = st.builds(function, names, shapes, types, zero_points, seeds)
    along = st.builds(
        rows, st.sampled_from(("Softmax", "LayerNormalization")), shapes, types, zero_points, seeds
    )
    return st.one_of(_pooling(), both, one, along)


def edges() -> list[Case]:
    """Every operator and function, images from both sources, sides of a vector."""
    found = []
    windows: list[dict[str, Any]] = [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]},
    ]
    for i, window in enumerate(windows):
        kind = (ACTIVATIONS[i % 2], ACTIVATIONS[i % 2])
        found.append(pooling("MaxPool", 15 + i, (7, 9), bool(i % 2), kind, ZEROS[i], i, **window))
        found.append(pooling("AveragePool", 16 + i, (8, 6), not i % 2, kind, ZEROS[i + 1], i, **window))
    for i in range(3):
        found.append(
            pooling("GlobalAveragePool", 15 + i, (7, 7), bool(i % 2), ("int8", "uint8"), ZEROS[i], i)
        )
    for i, operator in enumerate(("Add", "Mul", "Concat", "Sub")):
        kind = (ACTIVATIONS[i % 2], ACTIVATIONS[i // 2])
        for j, given in enumerate(((False, False), (True, False), (True, True))):
            more: dict[str, Any] = {"types": kind, "zeros": ZEROS[(i + j) % 4], "seed": i + j}
            found.append(
                combined(operator, (15 + j, 16 + i), (5, 7), given, after=("", "Relu", "Sigmoid")[j], **more)
            )
    found.append(combined("Mul", (17, 17), (5, 7), (False, False), spread=True, seed=4))
    found.append(combined("Add", (1, 1), (1, 1), (False, True), seed=5))
    for i, name in enumerate(FUNCTIONS):
        kind = (ACTIVATIONS[i % 2], ACTIVATIONS[i // 2 % 2])
        found.append(function((name,), (3, 7 + 9 * i), kind, ZEROS[i % 4], i))
    found += [function(("Sigmoid", "Tanh"), (1, 17, 5, 3), seed=3), function(("Relu",), (1,))]
    for i, operator in enumerate(("Softmax", "LayerNormalization")):
        found.append(rows(operator, (3, 33), ("uint8", "uint8"), "middle", i))
        found.append(rows(operator, (2, 3, 16), ("int8", "int8"), "any", i))
        found.append(rows(operator, (5, 1 + 20 * i), ("int8", ""), "lowest", i))
    return found
