"""Lanes of a register picked by indices that are known only at run time.

x86 permutes whole registers of float32 from AVX2 on (`vpermps`); registers of 128 bits pick bytes everywhere
(`pshufb`, `tbl`, `i8x16.swizzle`).
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as tir

from .builder import int32, vector_type
from .isa import Isa

__all__ = ["can_permute", "can_swizzle", "permute", "repeated", "swizzle"]

_PERMUTE = {8: "llvm.x86.avx2.permps", 16: "llvm.x86.avx512.permvar.sf.512"}
_SWIZZLE = {
    "x86": "llvm.x86.ssse3.pshuf.b.128",
    "arm64": "llvm.aarch64.neon.tbl1.v16i8",
    "wasm": "llvm.wasm.swizzle",
}


def can_permute(isa: Isa) -> bool:
    """Whether there is `permute`."""
    return isa.target.family == "x86" and isa.lanes in _PERMUTE


def permute(isa: Isa, table: Any, index: Any) -> Any:
    """`table[index % lanes]` in every lane: a register of float32 picked by one of int32."""
    return tir.call_llvm_pure_intrin(vector_type("float32", isa.lanes), _PERMUTE[isa.lanes], table, index)


def can_swizzle(isa: Isa) -> bool:
    """Whether there is `swizzle`."""
    return isa.target.family in _SWIZZLE and isa.lanes == 4


def swizzle(isa: Isa, table: Any, index: Any) -> Any:
    """`table[index]` in every lane: 16 uint8 picked by 16 uint8 below 16."""
    relaxed = "+relaxed-simd" in isa.features
    name = "llvm.wasm.relaxed.swizzle" if relaxed else _SWIZZLE[isa.target.family]
    return tir.call_llvm_pure_intrin("uint8x16", name, table, index)


def repeated(vector: Any, lanes: int, times: int) -> Any:
    """`vector` of `lanes` values, `times` over in one register."""
    if times == 1:
        return vector
    if lanes == 1:
        return tir.Broadcast(vector, times)
    return tir.Shuffle([vector] * times, [int32(i) for i in range(lanes * times)])
