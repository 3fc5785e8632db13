"""Looking bytes up in registers gives the table's entries, whatever the vector and the instructions."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import ir

from gossamer.kernels.building.toolchain import zig
from gossamer.kernels.cpu.builder import Builder
from gossamer.kernels.cpu.byte_lookup import look_up, stored_table
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.lowering.emit import compiled_module
from gossamer.kernels.lowering.entry import as_c_function
from gossamer.kernels.targets import find_target
from gossamer.runtime.errors import GossamerError
from gossamer.runtime.machine import check_machine
from gossamer.runtime.specs import TargetSpec

VECTORS = (4, 8, 12, 16, 32, 48, 64)


def usable(name: str) -> Isa:
    target = find_target(name)
    try:
        check_machine(
            TargetSpec(target.name, target.triple, target.family, target.container, target.requires)
        )
    except GossamerError as error:
        pytest.skip(str(error))
    return Isa(target, "model")


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni"])
def test_every_byte_finds_its_entry(name: str, tmp_path: Path) -> None:
    isa = usable(name)
    functions = {}
    for lanes in VECTORS:
        b = Builder(isa)
        codes, table, out = (b.pointer("uint8") for _ in range(3))
        with b.loop(256 // lanes) as i:
            b.store(out, i * lanes, look_up(b, table, codes.load(i * lanes, lanes)))
        functions[ir.GlobalVar(f"k{lanes}")] = as_c_function(b.finish(), f"k{lanes}")
    compiled_module(tvm.IRModule(functions), isa).write_to_file(str(tmp_path / "k.o"))
    zig("ld.lld", "-shared", tmp_path / "k.o", "-o", tmp_path / "k.so")
    library = ctypes.CDLL(str(tmp_path / "k.so"))
    rng = np.random.default_rng(0)
    entries = rng.integers(0, 256, 256, np.uint8)
    stored, codes_array = stored_table(isa, entries), rng.permutation(256).astype(np.uint8)
    for lanes in VECTORS:
        found = np.zeros(256, np.uint8)
        arrays = (codes_array, stored, found)
        getattr(library, f"k{lanes}")(*(a.ctypes.data_as(ctypes.c_void_p) for a in arrays), 0, 1)
        whole = 256 // lanes * lanes
        np.testing.assert_array_equal(found[:whole], entries[codes_array[:whole]], err_msg=str(lanes))
        assert not found[whole:].any(), lanes
