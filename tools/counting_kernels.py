"""Instructions of every kernel of an AArch64 artifact, beside the multiply-adds that it has to do."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gossamer.runtime.manifest import StepSpec

from .counting import Count, find_counter, open_counted

__all__ = ["KernelCount", "count_kernels"]

_LANES = 4  # float32 in a vector register


@dataclass(frozen=True)
class KernelCount:
    """One kernel call: its instructions, by class as in `Count`; `share` is that of all kernels.

    `useful` is the share that vector multiply-adds would be if they did the kernel's work and nothing else;
    None where it multiplies nothing.
    """

    step: int
    kernel: str
    layers: tuple[str, ...]
    shape: tuple[int, ...]
    tile: str
    share: float
    useful: float | None
    count: Count

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, on one level."""
        fields = asdict(self)
        counted = fields.pop("count")
        return {**fields, **{key: counted[key] for key in counted if key not in ("name", "engine", "ratio")}}


def count_kernels(path: Path, seed: int = 0) -> list[KernelCount]:
    """Count the kernels of one inference of an arm64-linux artifact, in the order of their calls.

    Raises InputError or JobError.
    """
    from gossamer.kernels.building.emulating import run_emulated

    artifact, feeds = open_counted(path, seed)
    steps = artifact.manifest.steps
    with tempfile.TemporaryDirectory(prefix="gossamer-") as scratch:
        counted = find_counter(
            Path(scratch)
        ).count(
            lambda options: run_emulated(artifact, feeds, options=options, mark_kernels=True),
            spans=len(steps) + 1,  # and what comes after the last kernel
        )[:-1]
    total = sum(sum(by.values()) for by in counted)
    return [
        _kernel(index, step, by, total) for index, (step, by) in enumerate(zip(steps, counted, strict=True))
    ]


def _kernel(index: int, step: StepSpec, by: dict[str, int], total: int) -> KernelCount:
    own = sum(by.values())
    return KernelCount(
        step=index,
        kernel=step.kernel,
        layers=step.layers,
        shape=tuple(size if isinstance(size, int) else 0 for size in step.shape),
        tile=step.tile,
        share=own / total,
        useful=step.macs / _LANES / own if step.macs else None,
        count=Count(step.kernel, "gossamer", own, own / total, **by),
    )
