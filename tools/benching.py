"""Latencies of several engines, each in its own process, in interleaved turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from gossamer.runtime.errors import InputError, JobError

from .console import Progress
from .engines import Choice, parse_choice

__all__ = ["Contestant", "Timing", "Worker", "bench", "interleave"]

_WARM_UP = 5  # times as long as a turn: JavaScript engines compile hot code anew while they run
_SECONDS_TO_END = 10


@dataclass(frozen=True)
class Timing:
    """Latency of one engine: milliseconds of the median run, and of the 10th and 90th percentile.

    `ratio` is the median over the baseline's: below 1 is faster than the baseline.
    """

    name: str
    engine: str
    threads: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    ratio: float

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


class Contestant(Protocol):
    """Something that can be timed in turns."""

    @property
    def name(self) -> str: ...
    def turn(self, seconds: float) -> list[int]:
        """Nanoseconds of each run of a turn of about `seconds`."""


class Worker:
    """A process with one open engine, stopped with all its children except while it is asked something."""

    def __init__(
        self,
        model: Choice | str | Path,
        threads: int = 1,
        shapes: Mapping[str, Sequence[int]] | None = None,
        seed: int = 0,
    ) -> None:
        self.choice = model if isinstance(model, Choice) else parse_choice(model)
        self.name = str(self.choice.path)
        command = [sys.executable, "-P", "-m", "gossamer.tools.bench_worker"]
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process; a pipe fills up
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
            process_group=0,
        )
        self._opening = {
            "model": str(self.choice),
            "threads": threads,
            "shapes": dict(shapes or {}),
            "seed": seed,
            "budget_mb": self.choice.budget_mb,
        }

    @property
    def process(self) -> int:
        """Its number; its group, which the engine's other processes are in, has the same."""
        return self._process.pid

    def __enter__(self) -> Worker:
        try:
            self._ask({"open": self._opening})
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._signal(signal.SIGCONT)
        try:
            self._process.communicate(timeout=_SECONDS_TO_END)  # its input ends, and so does it
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)  # and what it started
            self._process.communicate()
            self._words.close()

    def _stop(self) -> None:
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def turn(self, seconds: float) -> list[int]:
        """Nanoseconds of each run of one turn."""
        return [int(t) for t in self._ask({"run": seconds})["times"]]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._signal(signal.SIGCONT)
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._death()
        self._stop()  # pools of threads may spin on when the work is done
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise InputError(reply["error"]) if reply["code"] == 2 else JobError(reply["error"])
        return reply

    def _death(self) -> JobError:
        code = self._process.wait()
        self._words.seek(0)
        words = self._words.read().strip().splitlines()
        return JobError(
            "the process that ran it died",
            where=self.name,
            got=f"exit status {code}" + (f" ({words[-1]})" if words else ""),
        )


def bench(
    models: Sequence[Choice | str | Path],
    *,
    baseline: int = 0,
    threads: int | Sequence[int] = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    rounds: int = 10,
    turn_seconds: float = 0.2,
    progress: Progress = lambda label, done, total: None,
) -> list[Timing]:
    """Time models, each a path or `ENGINE[@VARIANT]:PATH`, on random inputs of the same seed.

    Each has a process of its own; `threads` is one number, or one for each. Ratios are to
    `models[baseline]`. Raises InputError or JobError.
    """
    counts = [threads] * len(models) if isinstance(threads, int) else list(threads)
    choices = [m if isinstance(m, Choice) else parse_choice(m) for m in models]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(choice, count, shapes or {}, seed))
            for choice, count in zip(choices, counts, strict=True)
        ]
        times = interleave(workers, rounds, turn_seconds, progress)
    medians = [float(np.median(t)) for t in times]
    return [
        _timing(choice, count, measured, median / medians[baseline])
        for choice, count, measured, median in zip(choices, counts, times, medians, strict=True)
    ]


def interleave(
    contestants: Sequence[Contestant],
    rounds: int,
    turn_seconds: float,
    progress: Progress = lambda label, done, total: None,
) -> list[list[int]]:
    """Nanoseconds of every run of each contestant.

    After a long warm-up turn each, every round gives each one turn, so that a machine that slows down slows
    all of them.
    """
    times: list[list[int]] = [[] for _ in contestants]
    total = (rounds + 1) * len(contestants)
    for index, contestant in enumerate(contestants):
        progress(contestant.name, index, total)
        contestant.turn(_WARM_UP * turn_seconds)
    for turn in range(1, rounds + 1):
        for index, contestant in enumerate(contestants):
            progress(contestant.name, turn * len(contestants) + index, total)
            times[index] += contestant.turn(turn_seconds)
    return times


def _timing(choice: Choice, threads: int, times: Sequence[int], ratio: float) -> Timing:
    low, median, high = (float(v) / 1e6 for v in np.percentile(np.array(times), [10, 50, 90]))
    return Timing(str(choice.path), choice.label, threads, median, low, high, len(times), ratio)
