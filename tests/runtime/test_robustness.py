"""Sessions over many runs and from many threads: the same answers, and no more memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.runtime.errors import FeedError
from gossamer.runtime.session import InferenceSession

WARM, RUNS, OPENED = 50, 1500, 40
USERS = 8


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def growth(work: Callable[[], object], times: int) -> int:
    """By how many bytes memory grows while `work` is repeated; what the first turns take does not count."""
    for _ in range(WARM):
        work()
    gc.collect()
    before = resident()
    for _ in range(times):
        work()
    gc.collect()
    return resident() - before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_stable_over_many_runs_and_refusals(toy: Any, threads: int) -> None:
    wide = np.ones((2, toy.size // 2), np.float32)
    with InferenceSession(toy.artifact(), threads=threads) as session:

        def work() -> None:
            session.run(None, {"x": wide})
            with pytest.raises(FeedError):
                session.run(None, {"x": wide[:1]})

        assert growth(work, RUNS) < 1 << 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_is_stable_over_many_sessions(toy: Any) -> None:
    folder = toy.artifact()
    assert growth(lambda: InferenceSession(folder, threads=2).close(), OPENED) < 2 << 20


def together(work: Callable[[int], None]) -> None:
    """Runs `work` on many threads at once; the first failure of any is raised here."""
    failures, start = list[BaseException](), threading.Barrier(USERS)

    def user(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    users = [threading.Thread(target=user, args=(number,)) for number in range(USERS)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    if failures:
        raise failures[0]


def inputs(toy: Any, number: int, turn: int) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(1000 * number + turn).standard_normal(toy.size, dtype=np.float32)
    return np.asarray(values.reshape(2, -1))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_that_share_a_session_get_their_own_answers(toy: Any, threads: int) -> None:
    with InferenceSession(toy.artifact(), threads=threads) as session:

        def work(number: int) -> None:
            for turn in range(100):
                x = inputs(toy, number, turn)
                np.testing.assert_array_equal(session.run(None, {"x": x})[0], toy.output(x))

        together(work)


def test_many_sessions_at_once_give_their_own_answers(toy: Any) -> None:
    def work(number: int) -> None:
        for turn in range(5):
            with InferenceSession(toy.artifact(), threads=1 + number % 3) as session:
                for again in range(10):
                    x = inputs(toy, number, 10 * turn + again)
                    np.testing.assert_array_equal(session.run(None, {"x": x})[0], toy.output(x))

    together(work)
