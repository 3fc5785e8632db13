"""A converted model is compared with its source by running both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gossamer.runtime.comparing import tensor_error
from gossamer.runtime.errors import JobError
from gossamer.runtime.feeds import random_feeds

from .input_shapes import apply_input_shapes
from .loading import load_model
from .reference import OnnxTensor, Runnable, onnx_io, run_onnx
from .report import OutputCheck, Report
from .rounding import TOLERANCE, rounding_limits

__all__ = ["ExactChecker", "sample_feeds", "verify_conversion"]

Array = npt.NDArray[Any]


def sample_feeds(
    model: Runnable, input_shapes: Mapping[str, Sequence[int]] | None = None, seed: int = 0
) -> dict[str, Array]:
    """Random feeds for `model`; a dimension without a size, given or in `input_shapes`, is 1."""
    given = input_shapes or {}
    inputs = [
        OnnxTensor(
            t.name, t.dtype, tuple(given.get(t.name, [d if isinstance(d, int) else 1 for d in t.shape]))
        )
        for t in onnx_io(model)[0]
    ]
    return random_feeds(inputs, seed)


def verify_conversion(
    before: Runnable,
    after: Runnable,
    report: Report,
    feeds: Mapping[str, Array],
    max_error: float | None = None,
) -> list[OutputCheck]:
    """Compare all outputs of `after` with those of `before`, write that into `report` and return it.

    Where every pass that changed something is exact, errors stay below TOLERANCE of the spread, or what
    rounding explains; a lossy conversion is bounded by `max_error` only, where that is given. Raises JobError
    naming the worst output.
    """
    expected = _run_source(before, feeds)
    got = run_onnx(after, feeds)
    if report.exact:
        checks = _exact_checks(_names(after), expected, got, "all", before, feeds)
    else:
        checks = compare_outputs(_names(after), expected, got, max_error, "all")
    report.checks.extend(checks)
    _raise_if_failed(checks, "the converted model differs from its source")
    return checks


def _run_source(model: Runnable, feeds: Mapping[str, Array]) -> list[Array]:
    """What the source gives; where its inputs are fixed at other sizes than those of `feeds`, they are
    changed."""
    try:
        return run_onnx(_resized(model, feeds), feeds)
    except JobError as error:
        raise JobError(
            f"the source model does not run on the inputs it is verified with: {error}",
            advice="give sizes with --input-shape, real inputs with --calibrate, or take --no-verify",
        ) from None


def _resized(model: Runnable, feeds: Mapping[str, Array]) -> Runnable:
    inputs = [tensor for tensor in onnx_io(model)[0] if tensor.name in feeds]
    sizes = [pair for t in inputs for pair in zip(t.shape, feeds[t.name].shape, strict=False)]
    if not any(isinstance(fixed, int) and fixed != given for fixed, given in sizes):
        return model
    resized = load_model(model).clone()
    apply_input_shapes(resized, {tensor.name: feeds[tensor.name].shape for tensor in inputs})
    return resized


def compare_outputs(
    names: Sequence[str], expected: Sequence[Array], got: Sequence[Array], tolerance: float | None, stage: str
) -> list[OutputCheck]:
    """One check for each output."""
    if len(expected) != len(got):
        raise JobError("the number of outputs has changed", expected=len(expected), got=len(got))
    return [_check(*each, tolerance, stage) for each in zip(names, expected, got, strict=True)]


def _exact_checks(
    names: Sequence[str],
    expected: Sequence[Array],
    got: Sequence[Array],
    stage: str,
    source: Runnable,
    feeds: Mapping[str, Array],
) -> list[OutputCheck]:
    """Compared by TOLERANCE; only where that fails, `source` is asked what it makes of rounding."""
    checks = compare_outputs(names, expected, got, TOLERANCE, stage)
    if all(check.passed for check in checks):
        return checks
    limits = rounding_limits(_resized(source, feeds), feeds, expected)
    return [_check(*each, stage) for each in zip(names, expected, got, limits, strict=True)]


def _check(name: str, expected: Array, got: Array, tolerance: float | None, stage: str) -> OutputCheck:
    if expected.dtype.kind in "OUS":
        difference = 0.0 if np.array_equal(expected, got) else float("inf")
        error, spread = difference, 1.0
    else:
        measured = tensor_error(expected, got)
        error, spread = measured.max_abs, measured.spread
    relative = error / spread
    # A NaN is beyond every bound.
    passed = tolerance is None or relative <= tolerance
    return OutputCheck(name, error, spread, relative, tolerance, passed, stage)


def _names(model: Runnable) -> list[str]:
    return [tensor.name for tensor in onnx_io(model)[1]]


def _raise_if_failed(checks: Sequence[OutputCheck], what: str) -> None:
    failed = [check for check in checks if not check.passed]
    if failed:
        worst = max(failed, key=lambda check: check.relative)
        raise JobError(
            what,
            where=f"output {worst.output!r}",
            expected=f"an error of at most {worst.tolerance:g} of the spread",
            got=f"{worst.relative:.3g}",
        )


class ExactChecker:
    """Watches a conversion: what exact passes give must match what they were given, lossy ones set a new
    reference.

    `begin` is called before and `end` after a run of passes that are all exact.
    """

    def __init__(self, feeds: Mapping[str, Array]) -> None:
        self._feeds = feeds
        self._expected: list[Array] = []
        self._before: ir.Model | None = None
        self.checks: list[OutputCheck] = []

    def begin(self, model: ir.Model) -> None:
        """Remember what `model` gives."""
        self._before = model.clone()
        self._expected = _run_source(model, self._feeds)

    def end(self, model: ir.Model, passes: Sequence[str]) -> None:
        """Compare with what was remembered; raises JobError naming the passes."""
        label = f"{passes[0]} to {passes[-1]}" if len(passes) > 1 else passes[0]
        got = run_onnx(model, self._feeds)
        names = [str(value.name) for value in model.graph.outputs]
        assert self._before is not None
        checks = _exact_checks(names, self._expected, got, label, self._before, self._feeds)
        self.checks.extend(checks)
        _raise_if_failed(checks, f"passes that claim to be exact ({label}) changed the model's results")
