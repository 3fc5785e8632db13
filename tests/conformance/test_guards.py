"""The guards themselves: code that touches what it must not is found, on this machine and in WebAssembly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.kernels.building import build_artifact
from gossamer.kernels.program import TensorInfo
from gossamer.kernels.targets import find_target
from gossamer.runtime.artifact import Artifact, open_artifact

from .graphs import Batch, Case, merge
from .guarded_native import run_native
from .guarded_wasm import run_wasm
from .machines import MACHINES

# C text at the end of the toy's entry (see tests/conftest.py), and what must be said about it
WRITES = {
    "y[SIZE] = 0;": r"output 0.*(written past its end|was touched)",
    "y[-1] = 0;": r"output 0.*(written before its start|was touched)",
    "((float *)x)[3] = 0;": r"input 0.*written",
    "((float *)w)[0] = 0;": r"weights.*written",
    "arena[SIZE + 2000] = 0;": r"arena.*(past|was touched)",
}
READS = {
    "y[0] += x[SIZE] > 0;": r"input 0.*was touched",
    "y[0] += x[-1];": r"input 0.*was touched",
    "y[0] += arena[SIZE];": "depends on other memory",
    "if (threads > 1 && thread == 0) y[0] = y[SIZE - 1] > 10;": "order of threads",
}


def batch_of(toy: Any) -> Batch:
    """The toy's sum and product as a case: its input c0_v0, its output c0_v4."""
    case = Case("toy")
    x = case.feed(np.arange(toy.size, dtype=np.float32))
    product = case.add("Mul", x, case.weight(toy.weights))
    return merge([case.give(case.add("Add", product, case.weight(np.ones(1, np.float32))))])


def built(toy: Any, target_name: str, extra: str, folder: Path) -> Artifact:
    target = find_target(target_name)
    names = {
        "inputs": (TensorInfo("c0_v0", "float32", (toy.size,)),),
        "outputs": (TensorInfo("c0_v4", "float32", (toy.size,)),),
    }
    program = toy.program("guards", arena_bytes=4 * toy.size + 64, **names)
    objects = toy.objects(target, "guards", extra)
    return open_artifact(build_artifact(program, objects, target, folder / "artifact"))


def native_faults(toy: Any, extra: str, folder: Path) -> list[str]:
    if reason := MACHINES["host"].why_not():
        pytest.skip(reason)
    artifact = built(toy, "host", extra, folder)
    return run_native(batch_of(toy), artifact, find_target("host"), None, (1, 3), folder)


def test_code_that_keeps_to_its_buffers_has_no_fault(toy: Any, tmp_path: Path) -> None:
    assert native_faults(toy, "", tmp_path) == []


@pytest.mark.parametrize("extra", [*WRITES, *READS])
def test_a_fault_is_found_on_this_machine(toy: Any, tmp_path: Path, extra: str) -> None:
    found = "\n".join(native_faults(toy, extra, tmp_path))
    assert found
    assert re.search({**WRITES, **READS}[extra], found), found


@pytest.mark.parametrize("extra", ["", *WRITES, "y[0] += x[SIZE] > 0;", "y[0] += arena[SIZE];"])
def test_a_fault_is_found_in_webassembly(toy: Any, tmp_path: Path, extra: str) -> None:
    pytest.importorskip("wasmtime")
    found = run_wasm(batch_of(toy), built(toy, "wasm", extra, tmp_path))
    assert bool(found) == bool(extra), found


def test_a_wrong_value_is_found(toy: Any, tmp_path: Path) -> None:
    (found, *_) = native_faults(toy, "if (thread == 0) y[5] += 1e-3f;", tmp_path)
    assert "times its bound" in found
    assert "toy" in found
