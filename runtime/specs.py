"""The parts of a manifest, as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .element_types import item_bytes

Array = np.ndarray[Any, np.dtype[Any]]

__all__ = [
    "BlockSpec",
    "CodeSpec",
    "FileSpec",
    "LedgerSpec",
    "LeftSpec",
    "StepSpec",
    "SymbolSpec",
    "TableSpec",
    "TargetSpec",
    "TensorSpec",
    "WeightSpec",
    "WeightsSpec",
]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: numpy's element type, and counts of elements per dimension.

    A count that a run brings is a formula in `shape`, and a place of the table in `slots`, which is -1 for
    plain numbers, and empty where all are.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    slots: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of the contiguous array; 0 where it is not known."""
        numbers = [size for size in self.shape if isinstance(size, int)]
        known = len(numbers) == len(self.shape)
        return math.prod(numbers) * item_bytes(self.dtype) if known else 0

    def sizes(self, table: Sequence[int] | Array) -> tuple[int, ...]:
        """The shape where the table holds these numbers."""
        slots = self.slots or (-1,) * len(self.shape)
        return tuple(
            int(table[slot]) if slot >= 0 else int(size) for size, slot in zip(self.shape, slots, strict=True)
        )


@dataclass(frozen=True)
class SymbolSpec:
    """A size that inputs bring: its place in the table, the least and the most (None: any) it may be."""

    name: str
    slot: int
    least: int
    most: int | None


@dataclass(frozen=True)
class TableSpec:
    """`count` int64 numbers at the head of the arena, which the C function `function` checks and fills in.

    Number 0 is the arena's bytes for one thread, or -(k + 1) where the sizes violate `guards[k]`; number 1 is
    what each further thread needs.
    """

    function: str
    count: int
    symbols: tuple[SymbolSpec, ...]
    guards: tuple[str, ...]


@dataclass(frozen=True)
class TargetSpec:
    """The machine the code is for; `requires` are feature words of /proc/cpuinfo."""

    name: str
    triple: str
    family: str
    container: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightSpec:
    """Where one packed tensor lies in the weights blob, in bytes."""

    name: str
    offset: int
    bytes: int
    dtype: str
    packing: str


@dataclass(frozen=True)
class BlockSpec:
    """A block of stacked weights, in bytes of the blob: without it and all behind it the model still runs.

    When it is loaded, the int32 at `counter` is to be `level`, the number of blocks of its stack.
    """

    name: str
    offset: int
    bytes: int
    sha256: str
    counter: int
    level: int


@dataclass(frozen=True)
class WeightsSpec:
    """The weights blob; `file` is None when it is embedded in the code.

    `blocks` come last in it, in the order in which they are to be loaded; the head before them has a hash of
    its own.
    """

    file: str | None
    bytes: int
    sha256: str
    tensors: tuple[WeightSpec, ...] = ()
    head_bytes: int = 0
    head_sha256: str = ""
    blocks: tuple[BlockSpec, ...] = ()


@dataclass(frozen=True)
class CodeSpec:
    """One code file. The last three are of role "wasm": relaxed SIMD, first free byte, pages to import."""

    role: str
    file: str
    relaxed: bool = False
    heap_base: int = 0
    initial_pages: int = 0


@dataclass(frozen=True)
class StepSpec:
    """One kernel call of the entry, in order; sizes in bytes, `scratch_bytes` for each thread.

    `macs` counts multiply-adds really done (a sparse kernel's are those of its stored values), 0 where the
    kernel does something else. Bytes count every tensor once.
    """

    kernel: str
    layers: tuple[str, ...]
    shape: tuple[int | str, ...]  # of the first tensor written
    tile: str = ""
    macs: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    scratch_bytes: int = 0


@dataclass(frozen=True)
class LeftSpec:
    """A QuantizeLinear or DequantizeLinear that no integer kernel took, and why."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True)
class LedgerSpec:
    """What became of a model's Q and DQ nodes: how many integer kernels took, and which are left."""

    integer_nodes: int = 0
    left: tuple[LeftSpec, ...] = ()


@dataclass(frozen=True)
class FileSpec:
    """Size and hash of a file of the folder."""

    bytes: int
    sha256: str
