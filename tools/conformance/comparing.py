"""Whether outputs are what a test expects, as ONNX's own runner decides it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .cases import Case

__all__ = ["first_difference"]

_BFLOAT16_RTOL = 2**-6  # as in ONNX's runner


def first_difference(case: Case, expected: Sequence[Any], got: Sequence[Any]) -> str:
    """What is wrong with the first output that is, in one line; empty where none is."""
    if len(expected) != len(got):
        return f"{len(got)} outputs, expected {len(expected)}"
    for index, (wanted, value) in enumerate(zip(expected, got, strict=True)):
        reason = _difference(case, wanted, value)
        if reason:
            return f"output {index}: {reason}"
    return ""


def _difference(case: Case, wanted: Any, value: Any) -> str:
    if isinstance(wanted, list | tuple):
        if not isinstance(value, list | tuple):
            return f"{type(value).__name__}, expected a sequence"
        return first_difference(case, wanted, value)
    if wanted is None or value is None:
        return "" if wanted is value else f"{value!r}, expected {wanted!r}"
    wanted, value = np.asarray(wanted), np.asarray(value)
    if value.shape != wanted.shape:
        return f"shape {list(value.shape)}, expected {list(wanted.shape)}"
    if wanted.dtype.kind in "OUS":
        return "" if np.array_equal(wanted.astype(str), value.astype(str)) else "other strings"
    if value.dtype != wanted.dtype:
        return f"type {value.dtype}, expected {wanted.dtype}"
    return _distance(wanted, value, case)


def _distance(wanted: np.ndarray, value: np.ndarray, case: Case) -> str:
    rtol = case.rtol
    if wanted.dtype.kind == "V":  # ml_dtypes' types, which numpy cannot promote
        rtol = max(rtol, _BFLOAT16_RTOL) if wanted.dtype.name == "bfloat16" else rtol
        wanted, value = wanted.astype(np.float32), value.astype(np.float32)
    with np.errstate(all="ignore"):
        close = np.isclose(value, wanted, rtol=rtol, atol=case.atol, equal_nan=True)
        if close.all():
            return ""
        at = tuple(int(i) for i in np.argwhere(~close)[0])
        count = int((~close).sum())
    return f"{value[at]} at {list(at)}, expected {wanted[at]}; {count} of {close.size} differ"
