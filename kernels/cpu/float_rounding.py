"""float32 to the nearest int32, halves to the even one."""

from __future__ import annotations

from typing import Any

from tvm import tirx as tir

from .builder import Builder, constant, lanes_of

__all__ = ["nearest_integers"]

_MOVED = 1.5 * 2**23  # added to a float below 2²², it leaves the integer in the lowest bits
_MOVED_BITS = 0x4B400000


def nearest_integers(b: Builder, value: Any) -> Any:
    """int32 of a vector; |value| must stay below 2²².

    An instruction does it on x86 and AArch64. There an addition would be fused with the product before it,
    whose own rounding onnxruntime's results depend on.
    """
    lanes = lanes_of(value)
    dtype = f"int32x{lanes}"
    if b.isa.target.family == "x86" and lanes in (4, 8, 16):
        if lanes == 16:
            rest = (constant(0, "int32", 16), tir.const(-1, "int16"), tir.const(4, "int32"))
            return tir.call_llvm_pure_intrin(dtype, "llvm.x86.avx512.mask.cvtps2dq.512", value, *rest)
        name = "llvm.x86.sse2.cvtps2dq" if lanes == 4 else "llvm.x86.avx.cvt.ps2dq.256"
        return tir.call_llvm_pure_intrin(dtype, name, value)
    if b.isa.target.family == "arm64" and lanes == 4:
        return tir.call_llvm_pure_intrin(dtype, "llvm.aarch64.neon.fcvtns.v4i32.v4f32", value)
    moved = tir.reinterpret(dtype, value + constant(_MOVED, "float32", lanes))
    return moved - constant(_MOVED_BITS, "int32", lanes)
