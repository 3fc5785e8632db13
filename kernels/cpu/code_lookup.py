"""What every way to turn codes into the entries of a table gives; `table_lookup.py` chooses one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .builder import Builder, Pointer
from .code_stream import CodeStream
from .isa import Isa

__all__ = ["Look", "TableLookup", "padded_tables"]

Array = npt.NDArray[Any]
Look = Callable[[int], Any]
"""The float32 vector of that number in a group, as an expression."""


@dataclass(frozen=True)
class TableLookup(ABC):
    """How the codes of one weight become float32; `bits` 1 to 8.

    A group of codes is read at once and gives `vectors` vectors of `isa.lanes` float32.
    """

    isa: Isa
    bits: int

    @property
    @abstractmethod
    def stream(self) -> CodeStream:
        """How codes lie in memory."""

    @property
    @abstractmethod
    def vectors(self) -> int:
        """float32 vectors that a group gives."""

    @property
    def items(self) -> int:
        """Words of `stream` that a group takes."""
        return self.vectors * self.isa.lanes * self.bits // self.stream.word_bits

    @property
    def table_items(self) -> int:
        """Items that a table takes, of the type that `tables` gives."""
        return int(self.tables(np.zeros((1, 1), np.float32)).shape[1])

    @property
    def table_type(self) -> str:
        """Type of the items that `tables` gives."""
        return str(self.tables(np.zeros((1, 1), np.float32)).dtype)

    @property
    def key(self) -> tuple[Any, ...]:
        """What the code of a look-up depends on beside the target."""
        return (type(self).__name__, self.bits)

    @abstractmethod
    def pack(self, codes: Array) -> Array:
        """(…, vectors, lanes) of integers below 2**bits → (…, items) of `stream.dtype`, as `look` reads."""

    @abstractmethod
    def tables(self, luts: Array) -> Array:
        """(T, up to 2**bits) float32 → (T, table_items) as `open` reads them; short tables end in zeros."""

    @abstractmethod
    def open(self, b: Builder, table: Pointer, at: Any) -> Any:
        """The table at item `at`, in registers where it is looked up there; to be given to `look`."""

    @abstractmethod
    def look(self, b: Builder, codes: Pointer, at: Any, table: Any) -> Look:
        """Reads the group at item `at`; vectors must be asked for in ascending order, each once."""


def padded_tables(luts: Array, entries: int) -> Array:
    """(T, up to entries) → (T, entries) float32, short tables end in zeros."""
    padded = np.zeros((len(luts), entries), np.float32)
    padded[:, : luts.shape[1]] = luts
    return padded
