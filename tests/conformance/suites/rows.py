"""Kernels along an axis: softmax, layer norm, reductions, running sums, the largest elements."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from ..drawing import extents, seeds
from ..graphs import Case, random_array

__all__ = ["cases", "edges"]

REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")


def softmax(shape: tuple[int, ...], axis: int, operator: str = "Softmax", seed: int = 0) -> Case:
    """Softmax or LogSoftmax of values some units apart."""
    case = Case(f"softmax{(shape, axis, operator, seed)}")
    return case.give(case.add(operator, case.feed(5 * random_array(seed, *shape)), axis=axis))


def layer_norm(shape: tuple[int, ...], axis: int, bias: bool = True, seed: int = 0) -> Case:
    """Scale and bias of the axes from `axis`; the values are off centre."""
    case = Case(f"layer_norm{(shape, axis, bias, seed)}")
    x = case.feed(random_array(seed, *shape) + np.float32(0.5))
    own = [case.weight(random_array(seed + i, *shape[axis:])) for i in range(1 + bias)]
    return case.give(case.add("LayerNormalization", x, *own, axis=axis))


def reduction(
    operator: str, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, seed: int = 0
) -> Case:
    """A sum, mean or extreme over `axes`."""
    case = Case(f"reduction{(operator, shape, axes, keep, seed)}")
    x = case.feed(random_array(seed, *shape))
    where = case.weight(np.array(axes, np.int64))
    return case.give(case.add(operator, x, where, keepdims=int(keep)))


def running_sum(shape: tuple[int, ...], axis: int, exclusive: bool, reverse: bool, seed: int = 0) -> Case:
    """CumSum."""
    case = Case(f"running_sum{(shape, axis, exclusive, reverse, seed)}")
    along = case.weight(np.array(axis, np.int64))
    x = case.feed(random_array(seed, *shape))
    return case.give(case.add("CumSum", x, along, exclusive=int(exclusive), reverse=int(reverse)))


def largest(shape: tuple[int, ...], axis: int, count: int, lowest: bool, seed: int = 0) -> Case:
    """TopK of values of which many are equal."""
    case = Case(f"largest{(shape, axis, count, lowest, seed)}")
    rounded = np.round(2 * random_array(seed, *shape)) / 2 + 0.0
    k = case.weight(np.array([count], np.int64))
    values = case.add("TopK", case.feed(rounded.astype(np.float32)), k, axis=axis, largest=int(not lowest))
    return case.give(values, case.nodes[-1][2][1])


@st.composite
def _shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """One to four axes, at most some 3000 elements."""
    shape: tuple[int, ...] = ()
    for _ in range(draw(st.integers(1, 4))):
        shape = (*shape, draw(extents(max(1, min(70, 3000 // prod(shape))))))
    return shape


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any axis of any shape."""
    shape, seed = draw(_shapes()), draw(seeds)
    axis = draw(st.integers(0, len(shape) - 1))
    kind = draw(st.sampled_from(("softmax", "layer_norm", "reduction", "running_sum", "largest")))
    if kind == "softmax":
        return softmax(shape, axis, draw(st.sampled_from(("Softmax", "LogSoftmax"))), seed)
    if kind == "layer_norm":
        return layer_norm(shape, axis, draw(st.booleans()), seed)
    if kind == "reduction":
        every = st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True)
        axes = tuple(sorted(draw(every)))
        return reduction(draw(st.sampled_from(REDUCTIONS)), shape, axes, draw(st.booleans()), seed)
    if kind == "running_sum":
        return running_sum(shape, axis, draw(st.booleans()), draw(st.booleans()), seed)
    return largest(shape, axis, draw(st.integers(1, min(12, shape[axis]))), draw(st.booleans()), seed)


def edges() -> list[Case]:
    """One element, sides of a vector, first and last axes."""
    found = [softmax((1,), 0), softmax((3, 17), 1), softmax((16, 33), 0), softmax((2, 5, 7), 1, "LogSoftmax")]
    found += [layer_norm((1, 1), 1), layer_norm((9, 48), 1), layer_norm((3, 5, 33), 1, False)]
    found += [layer_norm((2, 65), 1), softmax((2, 64), 1), softmax((5, 1), 1)]
    for i, operator in enumerate(REDUCTIONS):
        found.append(reduction(operator, (3, 17, 9), ((0,), (1,), (2,), (0, 2))[i], bool(i % 2)))
        found.append(reduction(operator, (33,), (0,), bool(i % 2), i))
        found.append(reduction(operator, (5, 31), (1,), False, i))
    found += [
        running_sum((3, 17), 1, True, False),
        running_sum((17, 3), 0, False, True),
        running_sum((1,), 0, True, True),
    ]
    found += [largest((5, 17), 1, 4, False), largest((9, 3), 0, 9, True), largest((1,), 0, 1, False)]
    return found
