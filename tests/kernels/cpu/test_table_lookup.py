"""Codes become the entries of a table: on this machine for every x86 target that it runs."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import ir

from gossamer.kernels.cpu.builder import Builder
from gossamer.kernels.cpu.code_stream import CodeStream
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.cpu.table_lookup import TableLookup, table_lookup
from gossamer.kernels.lowering.emit import compiled_module
from gossamer.kernels.lowering.entry import as_c_function
from gossamer.kernels.targets import find_target, target_names
from gossamer.kernels.tuning.measuring import _link
from gossamer.runtime.machine import cpu_flags

GROUPS = 2
X86 = [name for name in target_names() if name.startswith("x86-64")]


def isa_of(name: str) -> Isa:
    target = find_target(name)
    return Isa(target, next(iter(target.variants)))


@given(bits=st.integers(1, 8), word_bits=st.sampled_from((8, 32)), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_stream_holds_codes_lowest_bit_first_with_no_bit_between(
    bits: int, word_bits: int, seed: int
) -> None:
    stream = CodeStream(bits, word_bits, lanes=4)
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (GROUPS, stream.codes, 4))
    packed = stream.pack(codes)
    assert packed.dtype == stream.dtype
    assert packed.nbytes * 8 == codes.size * bits
    for group in range(GROUPS):
        for lane in range(4):
            whole = sum(int(word) << (word_bits * i) for i, word in enumerate(packed[group, :, lane]))
            wanted = sum(int(code) << (bits * i) for i, code in enumerate(codes[group, :, lane]))
            assert whole == wanted


def decoding(isa: Isa, lookup: TableLookup) -> Any:
    """A function that writes every vector of every group."""
    b = Builder(isa)
    codes, tables, out = b.pointer(lookup.stream.dtype), b.pointer(lookup.table_type), b.pointer("float32")
    table = lookup.open(b, tables, 0)
    with b.loop(GROUPS) as group:
        entry = lookup.look(b, codes, b.let(group * lookup.items), table)
        for number in range(lookup.vectors):
            b.store(out, (group * lookup.vectors + number) * isa.lanes, entry(number))
    return b.finish()


@pytest.mark.parametrize("target_name", X86)
def test_every_width_of_codes_is_decoded_exactly(target_name: str, tmp_path: Path) -> None:
    isa = isa_of(target_name)
    if not set(isa.target.requires) <= cpu_flags():
        pytest.skip(f"this processor is no {target_name}")
    rng = np.random.default_rng(0)
    full = rng.standard_normal(256).astype(np.float32)
    half = full.astype(np.float16).astype(np.float32)
    octet = np.round(full * 32) / np.float32(64)
    kinds = [(bits, lut[None, : 1 << bits]) for bits in range(1, 9) for lut in (full, half, octet)]
    lookups = [table_lookup(isa, bits, lut) for bits, lut in kinds]
    names = [f"decode{i}" for i in range(len(kinds))]
    module = {
        ir.GlobalVar(n): as_c_function(decoding(isa, k), n) for n, k in zip(names, lookups, strict=True)
    }
    compiled_module(tvm.IRModule(module), isa).write_to_file(str(tmp_path / "decode.o"))
    library = ctypes.CDLL(str(_link(tmp_path / "decode.o", tmp_path / "decode.so", isa)))
    for (bits, lut), lookup, name in zip(kinds, lookups, names, strict=True):
        codes = rng.integers(0, 1 << bits, (GROUPS, lookup.vectors, isa.lanes)).astype(np.uint8)
        packed, tables = lookup.pack(codes), lookup.tables(lut)
        assert packed.shape == (GROUPS, lookup.items)
        assert packed.nbytes * 8 == codes.size * bits
        out = np.full(codes.shape, np.nan, np.float32)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (packed, tables, out)]
        getattr(library, name)(*pointers, ctypes.c_int32(0), ctypes.c_int32(1))
        assert np.array_equal(out, lut[0][codes]), (bits, type(lookup).__name__)
