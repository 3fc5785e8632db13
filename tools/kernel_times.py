"""When each kernel of an artifact ends, run after run: in this process, or in Node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from gossamer.runtime.artifact import open_artifact
from gossamer.runtime.errors import JobError, OptionError
from gossamer.runtime.manifest import Manifest
from gossamer.runtime.node import NodeResult, run_in_node
from gossamer.runtime.session import InferenceSession

__all__ = ["Place", "kernel_times", "plain_ms"]

Array = np.ndarray[Any, Any]
_WARM_UP_RUNS = 3
_FEWEST_RUNS = 10
_SETTLING_SECONDS = 0.8  # in which an engine for JavaScript optimises what runs often
_MOST_RUNS = 2000
_NESTED = frozenset({"if", "loop"})  # families of steps that hold other steps


@dataclass(frozen=True)
class Place:
    """Where an artifact runs: "in-process" (native code, or wasmtime) or "node"; with how many threads."""

    variant: str = "in-process"
    threads: int = 1


def plain_ms(path: Path, place: Place, feeds: Mapping[str, Array], seconds: float) -> float:
    """Milliseconds of the median run without readings of the clock between kernels."""
    if place.variant == "node":
        settling, repeats = _repeats(path, feeds, seconds)
        return float(np.median(_in_node(path, feeds, repeats, profile=False).ms[settling:]))
    with InferenceSession(path, place.threads) as session:
        for _ in range(_WARM_UP_RUNS):
            session.run(None, feeds)
        times: list[float] = []
        end = perf_counter() + seconds
        while len(times) < _FEWEST_RUNS or perf_counter() < end:
            start = perf_counter()
            session.run(None, feeds)
            times.append(1e3 * (perf_counter() - start))
    return float(np.median(times))


def kernel_times(path: Path, place: Place, feeds: Mapping[str, Array], seconds: float) -> Array:
    """(runs, threads, kernels, 2) int64 nanoseconds: see `InferenceSession.profile`.

    Raises JobError where the code calls other kernels than the manifest lists, OptionError for several
    threads where it branches or loops: inside, they meet after every kernel, and each meeting would count.
    """
    nested = {step.kernel for step in _manifest(path).steps} & _NESTED
    if nested and place.threads != 1:
        what = f"a profile of a model with a step {sorted(nested)[0]!r} has one thread"
        raise OptionError(what, where="--threads", got=place.threads)
    if place.variant == "node":
        found = _of_node(path, place, feeds, seconds)
    else:
        with InferenceSession(path, place.threads) as session:
            session.run(None, feeds)
            runs: list[Array] = []
            end = perf_counter() + seconds
            while len(runs) < _FEWEST_RUNS or perf_counter() < end:
                runs.append(session.profile(feeds))
        found = np.stack(runs)
    if not found[..., 0].all():
        raise JobError("the code calls fewer kernels than the manifest lists", where=path)
    return found


def _of_node(path: Path, place: Place, feeds: Mapping[str, Array], seconds: float) -> Array:
    if place.threads != 1:
        raise OptionError("a profile in Node has one thread", where="--threads", got=place.threads)
    kernels = len(_manifest(path).steps)
    settling, repeats = _repeats(path, feeds, seconds)
    runs = _in_node(path, feeds, repeats, profile=True).kernels
    if any(len(run) != kernels for run in runs):
        raise JobError("the code calls other kernels than the manifest lists", where=path)
    ends = np.array(runs[settling:])
    return np.asarray(np.round(ends * 1e6)).astype(np.int64)[:, None, :, None].repeat(2, axis=3)


def _repeats(path: Path, feeds: Mapping[str, Array], seconds: float) -> tuple[int, int]:
    """Runs until the engine has optimised the code, and runs in all."""
    once = 1e-3 * max(1e-3, float(np.median(_in_node(path, feeds, _FEWEST_RUNS, profile=False).ms[1:])))
    settling = min(_MOST_RUNS, _WARM_UP_RUNS + int(_SETTLING_SECONDS / once))
    return settling, settling + int(np.clip(seconds / once, _FEWEST_RUNS, _MOST_RUNS))


def _in_node(path: Path, feeds: Mapping[str, Array], repeat: int, *, profile: bool) -> NodeResult:
    inputs = [feeds[tensor.name] for tensor in _manifest(path).inputs]
    return run_in_node(path, inputs, repeat, profile=profile)


def _manifest(path: Path) -> Manifest:
    return open_artifact(path).manifest
