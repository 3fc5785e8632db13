"""What every kernel family gives: operands, scratch, and the code for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from .builder import Builder, Pointer
from .isa import Isa
from .tensor import Tensor, stored_type

__all__ = ["Kernel"]


class Kernel(ABC):
    """One generated function. Kernels with equal `key` share their code."""

    family: str  # shown in reports
    macs: int = 0  # multiply-adds of one run, zeros left out; set where they are known
    tile_name: str = ""  # "6x4v"

    @abstractmethod
    def reads(self) -> Sequence[Tensor]:
        """Tensors read, in the order of the function's parameters."""

    @abstractmethod
    def writes(self) -> Sequence[Tensor]:
        """Tensors written; their parameters follow those read."""

    def scratch_bytes(self, isa: Isa) -> int:
        """Bytes of scratch one thread needs, given as the last pointer (float32)."""
        return 0

    @property
    @abstractmethod
    def key(self) -> tuple[Any, ...]:
        """Everything the code depends on."""

    @abstractmethod
    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        """Writes the code; `pointers` by id of the tensor."""

    def build(self, isa: Isa) -> Any:
        """The finished function (a TIR PrimFunc)."""
        b = Builder(isa)
        pointers: dict[int, Pointer] = {}
        for tensor in (*self.reads(), *self.writes()):
            pointers[id(tensor)] = b.pointer(stored_type(tensor.dtype))
        scratch = b.pointer("float32") if self.scratch_bytes(isa) else None
        self.emit(b, pointers, scratch)
        return b.finish()
