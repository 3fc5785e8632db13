"""Sizes that are known when a model runs: one normal form, decisions by bounds, expressions of TIR."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.kernels.cpu.builder import Builder, symbols_used
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.dims import Dim, UndecidedError, evaluated, fixed, larger, smaller, symbol, upper_bound
from gossamer.kernels.targets import find_target

N = symbol("n")
S = symbol("s", 1, 512)


def test_equal_polynomials_are_equal_and_hash_alike() -> None:
    assert (N + 1) * (N - 1) == N * N - 1
    assert hash((N + 1) * 2) == hash(2 * N + 2)
    assert N - N == 0
    assert isinstance(N - N + 3, int)


def test_quotients_that_come_out_are_polynomials() -> None:
    assert (N * 64 + 32) // 16 == 4 * N + 2
    assert (N * S * 64) // (S * 64) == N
    assert (N * N - 1) // (N + 1) == N - 1
    assert (2 * N) % 2 == 0


def test_numpy_counts_with_sizes() -> None:
    sizes = np.array([N, 2, S], dtype=object)
    assert np.prod(sizes) == 2 * N * S
    assert np.int64(3) * N - np.int64(1) == 3 * N - 1
    assert np.int64(2) - N == 2 - N


def test_decisions_follow_from_bounds_or_are_refused() -> None:
    assert S <= 512
    assert N >= 1
    assert smaller(S, 1000) == S
    assert upper_bound(S * S + 1) == 512 * 512 + 1
    assert upper_bound(N) is None
    with pytest.raises(UndecidedError, match=r"n > 5"):
        bool(N > 5)
    with pytest.raises(UndecidedError, match="must be known when the model is compiled"):
        fixed(N, "Conv node 'c'")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 9))
def test_arithmetic_is_that_of_whole_numbers(n: int, s: int, a: int, b: int) -> None:
    def formulas(n: Any, s: Any) -> list[Any]:
        return [
            (n * a + b) // a, (n * a + b) % a, (n * s + b) // (s + 1), (n * s * a) // (n * a), (n - a) // 2,
            (n + 3) // 4 * 4, smaller(n, s) + larger(n, b), (n * s) % (n + b), (7 * n + s) // 7,
            5 // n, 5 % n,
        ]  # fmt: skip

    values = {"n": n, "s": s}
    assert [evaluated(f, values) for f in formulas(N, S)] == formulas(n, s)


def test_a_function_has_a_parameter_for_each_symbol_it_uses() -> None:
    target = find_target("host")
    b = Builder(Isa(target, next(iter(target.variants))))
    out = b.pointer("float32")
    with b.loop(N * 2) as i:
        b.store(out, i + S, out.load(i))
    assert isinstance(N, Dim)
    assert symbols_used(b.finish()) == ["n", "s"]
