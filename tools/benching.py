"""Latencies of several engines, each in its own process, in interleaved turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gossamer.runtime.errors import InputError, JobError

from .console import Progress

__all__ = ["Timing", "bench"]

_WARM_UP_TURNS = 1


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


class _Worker:
    """A process with one open engine; it computes only while it is asked to."""

    def __init__(self, path: Path, threads: int, shapes: Mapping[str, Sequence[int]], seed: int) -> None:
        self.path = path
        command = [sys.executable, "-P", "-m", "gossamer.tools.bench_worker"]
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process; a pipe fills up
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, text=True
        )
        self._opening = {"path": str(path), "threads": threads, "shapes": dict(shapes), "seed": seed}

    def __enter__(self) -> _Worker:
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
        self._process.kill()
        self._process.communicate()
        self._words.close()

    def turn(self, seconds: float) -> list[int]:
        """Nanoseconds of each run of one turn."""
        return [int(t) for t in self._ask({"run": seconds})["times"]]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._death()
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
            where=self.path,
            got=f"exit status {code}" + (f" ({words[-1]})" if words else ""),
        )


def bench(
    paths: Sequence[Path],
    *,
    baseline: int = 0,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    rounds: int = 10,
    turn_seconds: float = 0.2,
    progress: Progress = lambda label, done, total: None,
) -> list[Timing]:
    """Time artifacts and ONNX files (by onnxruntime) on the same random inputs.

    After a warm-up turn each, every round gives each engine one turn, so that a machine that slows down
    slows all of them. Ratios are to `paths[baseline]`. Raises InputError or JobError.
    """
    times: list[list[int]] = [[] for _ in paths]
    total = (rounds + _WARM_UP_TURNS) * len(paths)
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(path, threads, shapes or {}, seed)) for path in paths]
        for turn in range(rounds + _WARM_UP_TURNS):
            for index, worker in enumerate(workers):
                progress(str(worker.path), turn * len(paths) + index, total)
                measured = worker.turn(turn_seconds)
                if turn >= _WARM_UP_TURNS:
                    times[index] += measured
    medians = [float(np.median(t)) for t in times]
    return [
        _timing(path, threads, measured, median / medians[baseline])
        for path, measured, median in zip(paths, times, medians, strict=True)
    ]


def _timing(path: Path, threads: int, times: Sequence[int], ratio: float) -> Timing:
    low, median, high = (float(v) / 1e6 for v in np.percentile(np.array(times), [10, 50, 90]))
    engine = "gossamer" if path.is_dir() else "onnxruntime"
    return Timing(str(path), engine, threads, median, low, high, len(times), ratio)
