"""Where the time of an artifact goes: every kernel of its entry, timed inside the real thing."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.runtime.artifact import open_artifact
from gossamer.runtime.errors import GossamerError
from gossamer.runtime.feeds import random_feeds
from gossamer.runtime.manifest import StepSpec

from .kernel_times import Place, kernel_times, plain_ms

__all__ = ["Profile", "Step", "profile"]


@dataclass(frozen=True)
class Step:
    """One kernel call. `ms` is the median time from its start to the last thread's end; `waited_ms` the mean
    over threads of the time spent at the barrier after it.

    `gflops` counts two operations a multiply-add really done; `gbs` gigabytes read and written, for kernels
    without multiply-adds. `peak_share` is that of `Profile.peak_gflops`.
    """

    step: int
    kernel: str
    layers: tuple[str, ...]
    shape: tuple[int, ...]
    tile: str
    ms: float
    share: float
    waited_ms: float
    gflops: float | None
    gbs: float | None
    peak_share: float | None


@dataclass(frozen=True)
class Profile:
    """`ms` is the median of the profiled runs, `plain_ms` that of runs without clock readings between.

    `peak_gflops` is measured on the spot, with the same number of threads, by a loop of multiply-adds in
    registers that is compiled for the artifact's target; None where the compiler is not installed.
    """

    name: str
    engine: str
    threads: int
    runs: int
    ms: float
    plain_ms: float
    peak_gflops: float | None
    steps: tuple[Step, ...]

    @property
    def families(self) -> list[dict[str, Any]]:
        """Totals by kernel family, slowest first."""
        names = sorted({step.kernel for step in self.steps})
        rows = [_family(name, [s for s in self.steps if s.kernel == name], self) for name in names]
        return sorted(rows, key=lambda row: -float(row["ms"]))

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the totals."""
        return {**asdict(self), "families": self.families}


def profile(path: Path, place: Place | None = None, *, seconds: float = 3.0, seed: int = 0) -> Profile:
    """Times every kernel of the artifact `path` in runs on random inputs for about `seconds`.

    Raises InputError or JobError.
    """
    place = place or Place()
    manifest = open_artifact(path).manifest
    feeds = random_feeds(manifest.inputs, seed)
    plain = plain_ms(path, place, feeds, seconds / 4)
    times = kernel_times(path, place, feeds, seconds)
    peak = _peak_gflops(manifest.target.name, place)
    starts = np.zeros_like(times[..., 0])
    starts[:, :, 1:] = times[:, :, :-1, 1]
    spans = np.median(times[..., 0].max(axis=1) - starts.min(axis=1), axis=0) / 1e6  # (kernels,)
    waits = np.median((times[..., 1] - times[..., 0]).mean(axis=1), axis=0) / 1e6
    total = float(spans.sum())
    in_process = "wasmtime" if manifest.target.family == "wasm" else "native"
    return Profile(
        name=str(path),
        engine="node" if place.variant == "node" else in_process,
        threads=place.threads,
        runs=len(times),
        ms=total,
        plain_ms=plain,
        peak_gflops=peak,
        steps=tuple(
            _step(i, spec, float(spans[i]), total, float(waits[i]) if place.threads > 1 else 0.0, peak)
            for i, spec in enumerate(manifest.steps)
        ),
    )


def _step(index: int, spec: StepSpec, ms: float, total: float, waited: float, peak: float | None) -> Step:
    seconds = max(ms, 1e-6) / 1e3
    gflops = 2e-9 * spec.macs / seconds if spec.macs else None
    moved = spec.read_bytes + spec.written_bytes
    return Step(
        step=index,
        kernel=spec.kernel,
        layers=spec.layers,
        shape=tuple(size if isinstance(size, int) else 0 for size in spec.shape),
        tile=spec.tile,
        ms=ms,
        share=ms / total if total else 0.0,
        waited_ms=waited,
        gflops=gflops,
        gbs=None if spec.macs else 1e-9 * moved / seconds,
        peak_share=gflops / peak if gflops is not None and peak else None,
    )


def _family(name: str, steps: Sequence[Step], whole: Profile) -> dict[str, Any]:
    ms = sum(step.ms for step in steps)
    work = sum(step.gflops * step.ms for step in steps if step.gflops is not None)
    gflops = work / ms if work and ms else None
    peak = whole.peak_gflops
    return {
        "kernel": name,
        "steps": len(steps),
        "ms": ms,
        "share": sum(step.share for step in steps),
        "waited_ms": sum(step.waited_ms for step in steps),
        "gflops": gflops,
        "peak_share": gflops / peak if gflops is not None and peak else None,
    }


def _peak_gflops(target_name: str, place: Place) -> float | None:
    """The best of some runs of the artifact of multiply-adds; None where it cannot be built here."""
    try:
        from gossamer.kernels.peak import FACTORS, build_peak
        from gossamer.kernels.targets import find_target
    except ImportError:
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="gossamer-") as folder:
            path = build_peak(find_target(target_name), Path(folder) / "peak")
            times = kernel_times(path, place, {"x": np.array(FACTORS, np.float32)}, 0.3)
            work = 2 * open_artifact(path).manifest.steps[0].macs * place.threads
    except GossamerError:
        return None
    return float(work / times[:, :, 0, 0].max(axis=1).min())
