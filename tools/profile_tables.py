"""A profile as tables: one of kernels, one of families, and a line of totals."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .console import Column, note, print_table
from .profiling import Profile

__all__ = ["STEP_COLUMNS", "print_profile"]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(digits: int) -> Any:
    return lambda value: "" if value is None else f"{value:.{digits}f}"


def _layers(names: tuple[str, ...]) -> str:
    """The first one's name and how many more are computed with it."""
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return (names[0] if names else "")[-_LONGEST_LAYER:] + more


def _waited(value: float | None) -> str:
    return f"{value:.3f}" if value else ""


_LONGEST_LAYER = 44  # characters; the end tells layers apart better than the start
_MEASURED = [
    Column("ms", "ms", _number(3), right=True),
    Column("share", "of all", _percent, right=True),
    Column("waited_ms", "waited", _waited, right=True),
    Column("gflops", "GFLOP/s", _number(1), right=True),
    Column("gbs", "GB/s", _number(1), right=True),
    Column("peak_share", "of peak", _percent, right=True),
]
STEP_COLUMNS = [
    Column("step", "#", str, right=True),
    Column("kernel", "kernel"),
    Column("layers", "layers", _layers),
    Column("shape", "output", lambda shape: "x".join(map(str, shape))),
    Column("tile", "tile"),
]
_FAMILIES = [Column("kernel", "kernel"), Column("steps", "kernels", str, right=True), *_MEASURED]


def print_profile(profile: Profile) -> None:
    """Kernels in the order of their calls, then families, slowest first, on stdout; totals on stderr."""
    print_table([*STEP_COLUMNS, *_MEASURED], [asdict(step) for step in profile.steps])
    print_table(_FAMILIES, profile.families)
    peak = profile.peak_gflops
    ceiling = "not measured: the compiler is not installed" if peak is None else f"{peak:.1f} GFLOP/s"
    note(
        f"{profile.engine}, threads {profile.threads}, {profile.runs} runs: kernels {profile.ms:.3f} ms, "
        f"a run without a clock {profile.plain_ms:.3f} ms; peak (multiply-adds in registers) {ceiling}"
    )
