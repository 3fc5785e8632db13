"""Runs tests in a few worker processes, each test with a time limit."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from ..console import Progress
from .cases import Case
from .results import Result
from .worker import PRELOADED, serve

__all__ = ["run_cases"]

_POLL = 0.5  # seconds
_CRASHED = "crashed"
Ours = tuple[str, str, float]
"""Outcome, reason and seconds."""


class _Worker:
    """One process and the test it is at."""

    def __init__(self, context: Any, target: str, beside: bool) -> None:
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, target, beside), daemon=True)
        self._process.start()
        theirs.close()
        self.case: Case | None = None
        self.ours: Ours | None = None
        self.started = 0.0

    def give(self, case: Case, ours: Ours | None = None) -> None:
        """Starts a test; where our part is known, onnxruntime's."""
        self.case, self.ours, self.started = case, ours, time.monotonic()
        self.connection.send((case.suite, case.name, ours is None))

    def take(self) -> Result | None:
        """The whole result once both answers are there. Raises EOFError, OSError when the process ended."""
        answer = self.connection.recv()
        if self.ours is None:
            self.ours, self.started = answer, time.monotonic()
            return None
        return self._finished(answer)

    def _finished(self, theirs: tuple[str, str] | None) -> Result:
        assert self.case is not None
        assert self.ours is not None
        result, reason, seconds = self.ours
        case, self.case = self.case, None
        return Result(case.suite, case.name, result, reason, round(seconds, 3), *(theirs or ("", "")))

    def stop(self, why: str) -> Result | None:
        """Ends the process, which crashed or took too long; the result if that was onnxruntime's doing."""
        self._process.kill()
        self._process.join()
        self.connection.close()
        if why == _CRASHED:
            why = f"{_CRASHED}: {_status(self._process.exitcode)}"
        if self.ours is not None:
            return self._finished(("failed", why))
        self.ours = ("failed", why, time.monotonic() - self.started)
        return None

    def close(self) -> None:
        self.connection.close()
        self._process.join(1)
        self._process.kill()
        self._process.join()


def _status(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def run_cases(
    cases: Sequence[Case],
    target: str,
    *,
    jobs: int = 2,
    limit: float = 60.0,
    beside: bool = True,
    progress: Progress = lambda label, done, total: None,
) -> list[Result]:
    """The result of every test, in their order. `limit` is in seconds for each test; `beside` onnxruntime."""
    pool = _Pool(target, beside, min(jobs, len(cases)))
    queue = list(reversed(cases))
    results: dict[tuple[str, str], Result] = {}
    try:
        for worker in pool.workers:
            worker.give(queue.pop())
        while pool.busy():
            for worker, result in pool.answers(limit):
                results[result.suite, result.name] = result
                progress(f"{target}: {result.name}", len(results), len(cases))
                if queue:
                    worker.give(queue.pop())
    finally:
        pool.close()
    return [results[case.suite, case.name] for case in cases]


class _Pool:
    """Workers, each replaced when a test ends it."""

    def __init__(self, target: str, beside: bool, count: int) -> None:
        self._context: Any = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([PRELOADED])
        self._arguments = (target, beside)
        self.workers = [self._start() for _ in range(count)]

    def _start(self) -> _Worker:
        return _Worker(self._context, *self._arguments)

    def busy(self) -> list[_Worker]:
        """Those that are at a test."""
        return [worker for worker in self.workers if worker.case is not None]

    def answers(self, limit: float) -> Iterator[tuple[_Worker, Result]]:
        """Results that are there, each with a worker that is free."""
        busy = self.busy()
        ready = wait([worker.connection for worker in busy], _POLL)
        for worker in busy:
            if worker.connection in ready:
                try:
                    result = worker.take()
                except (EOFError, OSError):
                    worker, result = self._replace(worker, _CRASHED)
            elif time.monotonic() - worker.started > limit:
                worker, result = self._replace(worker, f"took more than {limit:g} s")
            else:
                continue
            if result is not None:
                yield worker, result

    def _replace(self, worker: _Worker, why: str) -> tuple[_Worker, Result | None]:
        """A new process for one that is ended, at onnxruntime's part of the test if ours ended it."""
        case, result = worker.case, worker.stop(why)
        fresh = self._start()
        self.workers[self.workers.index(worker)] = fresh
        if result is None:
            assert case is not None
            fresh.give(case, worker.ours)
        return fresh, result

    def close(self) -> None:
        """Ends all processes."""
        for worker in self.workers:
            worker.close()
