"""What a kernel generator asks of an instruction set: vector width, registers, multiply-add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from ..targets.base import Target

__all__ = ["Isa"]


@dataclass(frozen=True)
class Isa:
    """One code variant of a target (`variant` names it; WebAssembly has a baseline and a relaxed one)."""

    target: Target
    variant: str

    @property
    def lanes(self) -> int:
        """float32 values in a vector register."""
        return self.target.lanes

    @property
    def registers(self) -> int:
        """Vector registers that a kernel may count on."""
        return self.target.vector_registers

    @property
    def features(self) -> tuple[str, ...]:
        """LLVM attributes of this variant."""
        return (*self.target.features, *self.target.variants[self.variant])

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """`a * b + c` in one instruction where there is one, else two (float32 only)."""
        dtype = str(c.ty.dtype)
        if self.target.fma:
            return tir.call_intrin(dtype, "tirx.fma", a, b, c)
        if "+relaxed-simd" in self.features and dtype == "float32x4":
            return tir.call_llvm_pure_intrin(dtype, "llvm.wasm.relaxed.madd", a, b, c)
        return a * b + c
