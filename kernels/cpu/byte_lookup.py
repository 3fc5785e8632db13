"""Any function of one byte: a table of 256, looked up in registers for a whole vector at once.

    AVX-512 VBMI    vpermi2b picks from 128 entries: two of them, and a choice by the highest bit
    SSE to AVX-512  pshufb picks from 16, and gives 0 where the highest bit of the index is set
    NEON            tbl picks from 64, and gives 0 beyond
    WebAssembly     i8x16.swizzle picks from 16, and gives 0 beyond

pshufb looks at the lowest four bits only, so it cannot be told to leave out what lies beyond 16. Entries
t₀ t₁ … of blocks of 16 are stored as t₀, t₀ ⊕ t₁, t₁ ⊕ t₂ …: 16 is taken away for every block (saturating, so
that an index that has become negative stays so), and all that was found is combined by ⊕.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32, lanes_of
from .isa import Isa

__all__ = ["has_lookup", "look_up", "lookup_cost", "stored_table"]

Array = npt.NDArray[Any]
_PSHUFB = {
    16: "llvm.x86.ssse3.pshuf.b.128",
    32: "llvm.x86.avx2.pshuf.b",
    64: "llvm.x86.avx512.pshuf.b.512",
}


def has_lookup(isa: Isa) -> bool:
    """Whether registers are wide enough for it."""
    return isa.target.family in ("x86", "arm64", "wasm")


def lookup_cost(isa: Isa) -> float:
    """Instructions for as many bytes as there are float32 in a vector."""
    if _permutes(isa):
        return 1.5
    return {"arm64": 3.0, "wasm": 16.0}.get(isa.target.family, 12.0)


def stored_table(isa: Isa, entries: Array) -> Array:
    """256 entries of one byte as `look_up` reads them: uint8."""
    table = np.ascontiguousarray(entries).view(np.uint8).reshape(256)
    if isa.target.family != "x86" or _permutes(isa):
        return table
    halves = table.reshape(2, 8, 16).copy()
    halves[:, 1:] ^= table.reshape(2, 8, 16)[:, :-1]
    return halves.reshape(256)


def look_up(b: Builder, table: Pointer, codes: Any) -> Any:
    """uint8 of the same number as `codes` (any vector of bytes, taken as unsigned)."""
    count = lanes_of(codes)
    codes = tir.reinterpret(f"uint8x{count}", codes)
    whole, parts = _octets(b.isa, count), []
    for start in range(0, count, whole):
        here = min(whole, count - start)
        part = codes
        if count != whole:
            part = _picked(codes, [start + min(i, here - 1) for i in range(whole)])
        found = b.hold(_look_up(b, table, b.hold(part), whole))
        parts.append(found if here == whole else tir.Shuffle([found], [int32(i) for i in range(here)]))
    return parts[0] if len(parts) == 1 else tir.Shuffle(parts, [int32(i) for i in range(count)])


def _octets(isa: Isa, count: int) -> int:
    """Bytes that are looked up at once, of a vector of `count`."""
    if _permutes(isa):
        return 64
    whole = 16
    while whole < min(count, 4 * isa.lanes):
        whole *= 2
    return whole


def _picked(vector: Any, places: list[int]) -> Any:
    """Elements of a vector, of which there may be fewer than `places`."""
    times = -(-len(places) // lanes_of(vector))
    return tir.Shuffle([vector] * times, [int32(place) for place in places])


def _permutes(isa: Isa) -> bool:
    return "+avx512vbmi" in isa.features


def _look_up(b: Builder, table: Pointer, codes: Any, count: int) -> Any:
    if _permutes(b.isa):
        return _permuted(b, table, codes)
    if b.isa.target.family == "x86":
        return _differences(b, table, codes, count)
    name, size = ("llvm.wasm.swizzle", 16)
    if b.isa.target.family == "arm64":
        name, size = ("llvm.aarch64.neon.tbl4.v16i8", 64)
    total: Any = None
    for start in range(0, 256, size):
        places = codes - constant(start, "uint8", count) if start else codes
        registers = [table.load(start + i, 16) for i in range(0, size, 16)]
        found = tir.call_llvm_pure_intrin("uint8x16", name, *registers, places)
        total = found if total is None else b.hold(total | found)
    return total


def _permuted(b: Builder, table: Pointer, codes: Any) -> Any:
    quarters = [b.let(table.load(64 * i, 64), "table") for i in range(4)]
    name = "llvm.x86.avx512.vpermi2var.qi.512"
    low, high = (
        tir.call_llvm_pure_intrin("uint8x64", name, quarters[i], codes, quarters[i + 1]) for i in (0, 2)
    )
    return tir.Select(codes < constant(128, "uint8", 64), low, high)


def _differences(b: Builder, table: Pointer, codes: Any, count: int) -> Any:
    """Bytes from 128 on are left out of the first half, being negative, and the others of the second."""
    total: Any = None
    kind = f"int8x{count}"
    for half in (0, 1):
        places = codes ^ constant(128, "uint8", count) if half else codes
        places = b.hold(tir.reinterpret(kind, places))
        for block in range(8):
            entries = table.load(128 * half + 16 * block, 16)
            if count > 16:
                entries = _picked(entries, [i % 16 for i in range(count)])
            found = tir.call_llvm_pure_intrin(
                f"uint8x{count}", _PSHUFB[count], entries, tir.reinterpret(f"uint8x{count}", places)
            )
            total = found if total is None else b.hold(total ^ found)
            if block < 7:
                sixteen = constant(16, "int8", count)
                places = b.hold(tir.call_llvm_pure_intrin(kind, f"llvm.ssub.sat.v{count}i8", places, sixteen))
    return total
