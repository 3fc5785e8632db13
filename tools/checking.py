"""Run what was built beside onnxruntime on the file that was given, and measure the difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.kernels.targets import Target
from gossamer.passes.rounding import TOLERANCE
from gossamer.runtime.comparing import tensor_error
from gossamer.runtime.errors import InputError, JobError

from .engines import Engine

__all__ = ["Check", "check_outputs", "compare_engines", "require_agreement"]


Arrays = Mapping[str, np.ndarray[Any, Any]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """What one run of a built artifact showed.

    `where` is what ran it ("in process", "wasmtime (simd)", "qemu-aarch64"), or None with the `reason` why
    nothing here could; `errors` holds a row per output.
    """

    where: str | None
    reason: str = ""
    errors: tuple[Row, ...] = ()

    @property
    def worst(self) -> float:
        """Largest error of any output, in spreads; 0 where nothing ran."""
        return max((float(row["relative"]) for row in self.errors), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "where": self.where,
            "reason": self.reason,
            "worst": self.worst if self.where else None,
            "errors": list(self.errors),
        }


def check_outputs(expected: Arrays, got: Arrays) -> tuple[Row, ...]:
    """A row per output: name, shape, dtype and how far `got` lies from `expected`.

    Raises InputError when the names differ, JobError when a shape or dtype does.
    """
    if set(expected) != set(got):
        raise InputError("the outputs differ in name", expected=sorted(expected), got=sorted(got))
    rows = []
    for name, value in expected.items():
        error = tensor_error(value, got[name])
        rows.append(
            {
                "name": name,
                "shape": list(value.shape),
                "dtype": str(value.dtype),
                "max_abs": error.max_abs,
                "mean_abs": error.mean_abs,
                "spread": error.spread,
                "relative": error.relative,
                "at": list(error.where),
            }
        )
    return tuple(rows)


def compare_engines(first: Engine, second: Engine, feeds: Arrays) -> tuple[Row, ...]:
    """Feed both the same arrays; rows as of `check_outputs`, with `first` as the truth."""
    expected = dict(zip(first.output_names, first.run(feeds), strict=True))
    got = dict(zip(second.output_names, second.run(feeds), strict=True))
    return check_outputs(expected, got)


def require_agreement(
    target: Target, checks: Sequence[Check], limits: Callable[[], Mapping[str, float]] = dict
) -> None:
    """Raises JobError naming the first output that is beyond the tolerance.

    `limits` gives, by output, what rounding alone explains in this model (`passes/rounding.py`). It is asked
    for only where an output is beyond `TOLERANCE`.
    """
    beyond = [(c, row) for c in checks for row in c.errors if not row["relative"] <= TOLERANCE]
    if not beyond:
        return
    explained = limits()
    for check, row in beyond:
        limit = max(TOLERANCE, explained.get(row["name"], 0.0))
        if not row["relative"] <= limit:
            raise JobError(
                f"output {row['name']} differs from onnxruntime",
                where=f"{target.name} ({check.where})",
                expected=f"at most {limit:.2g} of its spread",
                got=f"{row['relative']:.2g} at {row['at']}",
                advice="nothing was written",
            )
