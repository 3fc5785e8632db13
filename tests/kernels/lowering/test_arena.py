"""Tensors that live at the same time never share a byte, and the arena is not wasteful."""

from __future__ import annotations

import random
from itertools import combinations
from statistics import median

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.kernels.lowering.arena import ALIGNMENT, Lifetime, lower_bound, place
from gossamer.kernels.lowering.lower import lower
from gossamer.kernels.targets import find_target
from gossamer.models.export import export_model
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare


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


def test_random_lifetimes_need_little_more_than_their_bound() -> None:
    """Sizes in whole alignments, so that rounding does not count; seeds are fixed, so the worst is too."""
    generator = random.Random(0)
    ratios = []
    for _ in range(100):
        found = []
        for number in range(generator.randint(5, 60)):
            first = generator.randint(0, 40)
            last = first + generator.choice([1, 1, 1, 2, 2, 5, 20])
            found.append(Lifetime(number, ALIGNMENT * generator.randint(1, 50), first, last))
        ratios.append(place(found)[1] / lower_bound(found))
    assert median(ratios) == 1
    assert max(ratios) <= 1.1


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    pytest.importorskip("torch")
    return prepare(load_model(export_model("mobilenet_v1", tmp_path_factory.mktemp("zoo") / "model.onnx")))


@pytest.mark.parametrize("target", ["host", "x86-64-v2", "arm64-linux", "wasm"])
def test_mobilenet_needs_at_most_a_tenth_more_than_is_alive(mobilenet: ir.Model, target: str) -> None:
    program = lower(mobilenet, find_target(target))
    assert program.arena_bytes <= 1.1 * program.arena_bound_bytes


def test_a_chain_of_equal_tensors_needs_two_places() -> None:
    chain = [Lifetime(i, 6400, i, i + 1) for i in range(10)]
    assert place(chain)[1] == 2 * 6400
