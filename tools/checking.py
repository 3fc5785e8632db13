"""Run what was built beside onnxruntime on the file that was given, and measure the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.kernels.targets import Target
from gossamer.runtime.comparing import tensor_error
from gossamer.runtime.errors import InputError, JobError

from .engines import Engine

__all__ = ["TOLERANCE", "Check", "check_outputs", "compare_engines", "require_agreement"]

TOLERANCE = 1e-4  # of each output's spread, against onnxruntime on the same file

Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Check:
    """What one run of a built artifact showed.

    `where` is the machine that ran it ("in process", "wasmtime (simd)", "qemu-aarch64"), or None with the
    `reason` why nothing here could; `errors` holds a row per output.
    """

    where: str | None
    reason: str = ""
    errors: tuple[dict[str, Any], ...] = field(default=())

    @property
    def worst(self) -> float:
        """Largest error of any output, in spreads; 0 where nothing ran."""
        return max((float(row["relative"]) for row in self.errors), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {"where": self.where, "reason": self.reason, "worst": self.worst, "errors": list(self.errors)}


def check_outputs(expected: Arrays, got: Arrays) -> tuple[dict[str, Any], ...]:
    """A row per output: name, shape, dtype and the errors of `got`. Raises InputError when names differ."""
    if set(expected) != set(got):
        raise InputError("the outputs differ in name", expected=sorted(expected), got=sorted(got))
    rows = []
    for name, value in expected.items():
        row = {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)}
        rows.append(row | asdict(tensor_error(value, got[name])))
    return tuple(rows)


def compare_engines(first: Engine, second: Engine, feeds: Arrays) -> list[dict[str, Any]]:
    """Feed both the same arrays; rows as of `check_outputs`, with `first` as the truth."""
    expected = dict(zip(first.output_names, first.run(feeds), strict=True))
    got = dict(zip(second.output_names, second.run(feeds), strict=True))
    return list(check_outputs(expected, got))


def require_agreement(target: Target, checks: Sequence[Check]) -> None:
    """Raises JobError naming the worst output when a check is beyond the tolerance."""
    for check in checks:
        for row in check.errors:
            if not row["relative"] <= TOLERANCE:
                raise JobError(
                    f"output {row['name']} differs from onnxruntime",
                    where=f"{target.name} ({check.where})",
                    expected=f"at most {TOLERANCE:g} of its spread",
                    got=f"{row['relative']:.2g}",
                    advice="nothing was written",
                )
