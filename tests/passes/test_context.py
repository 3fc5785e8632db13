"""Layers are worked on side by side, in order, and wherever joblib is told to run them."""

from __future__ import annotations

import os
import threading

import joblib
import pytest

from gossamer.passes.context import Context


def process_and_thread(value: int) -> tuple[int, int, int]:
    return value, os.getpid(), threading.get_ident()


def failing(value: int) -> int:
    if value == 2:
        raise ArithmeticError(f"layer {value}")
    return value


def test_results_keep_their_order_and_names_are_told() -> None:
    told: list[str] = []
    names = [f"layer{i}" for i in range(20)]
    found = list(
        Context(notify=told.append).map(process_and_thread, [(i,) for i in range(20)], names, jobs=4)
    )
    assert [value for value, _, _ in found] == list(range(20))
    assert {process for _, process, _ in found} == {os.getpid()}
    assert told[0] == "layer0 (1 of 20)"
    assert told[-1] == "layer19 (20 of 20)"


def test_a_back_end_that_is_set_runs_them_elsewhere() -> None:
    with joblib.parallel_config(backend="loky"):
        processes = set(Context().map(os.getpid, [()] * 4, list("abcd"), jobs=2))
    assert os.getpid() not in processes


def test_a_failure_reaches_the_caller() -> None:
    with pytest.raises(ArithmeticError, match="layer 2"):
        list(Context().map(failing, [(i,) for i in range(4)], list("abcd"), jobs=2))
