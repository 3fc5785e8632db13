"""The same seed gives the same palettes whatever vectors the processor has, and however numpy multiplies."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_SCRIPT = """
import hashlib, numpy as np
from gossamer.passes.clustering.fitting import Settings, fit_palette
from gossamer.passes.clustering.inputs import Assumed, Measured

rng = np.random.default_rng(0)
weight = rng.standard_normal((24, 20, 3, 3), dtype=np.float32)
rows = np.maximum(rng.standard_normal((300, 180), dtype=np.float32), 0)
digest = hashlib.sha256()
for inputs in (None, Assumed(20, (3, 3), (1, 1), True), Measured(rows, 1, 9)):
    for options in ({"channel_scale": True}, {"vector": 4, "books": 2}, {"lut": "int8"}):
        for part in fit_palette(weight, Settings(4, **options), inputs).parts.values():
            digest.update(part.tobytes())
print(digest.hexdigest())
"""


def digest(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names kernels of x86-64")
def test_an_old_processor_and_one_thread_find_the_same() -> None:
    usual = digest()
    assert len(usual) == 64
    assert digest(OPENBLAS_CORETYPE="Nehalem", OPENBLAS_NUM_THREADS="1") == usual
