"""Tensors that live at the same time never share a byte, and the arena is not wasteful."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gossamer.kernels.lowering.arena import ALIGNMENT, Lifetime, lower_bound, place


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    found = []
    for number in range(draw(st.integers(0, 20))):
        first = draw(st.integers(0, 15))
        found.append(Lifetime(number, draw(st.integers(1, 5000)), first, first + draw(st.integers(0, 6))))
    return found


@given(lifetimes())
def test_tensors_alive_together_do_not_overlap(tensors: list[Lifetime]) -> None:
    offsets, size = place(tensors)
    for one, other in combinations(tensors, 2):
        if one.first <= other.last and other.first <= one.last:
            a, b = offsets[one.tensor], offsets[other.tensor]
            assert a + one.bytes <= b or b + other.bytes <= a
    assert all(offset % ALIGNMENT == 0 for offset in offsets.values())
    assert all(offsets[t.tensor] + t.bytes <= size for t in tensors)


@given(lifetimes())
def test_the_lower_bound_is_one(tensors: list[Lifetime]) -> None:
    assert lower_bound(tensors) <= place(tensors)[1]


def test_a_chain_of_equal_tensors_needs_two_places() -> None:
    chain = [Lifetime(i, 6400, i, i + 1) for i in range(10)]
    assert place(chain)[1] == 2 * 6400
