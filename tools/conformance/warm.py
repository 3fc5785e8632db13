"""Imported once by the process that workers are forked from, so that each starts with everything loaded."""

from __future__ import annotations

import gossamer.kernels.building
import gossamer.kernels.lowering
import gossamer.passes.clean
import gossamer.passes.loading
import gossamer.runtime.session  # noqa: F401

from .cases import SUITES, load_suite

for _suite in SUITES:
    load_suite(_suite)
