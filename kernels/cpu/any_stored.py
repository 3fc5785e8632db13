"""Compressed weights times as many rows as a run brings: decoded panel by panel, or block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .any_rows import any_blocks, rest_tiles
from .builder import Builder, Pointer, int32
from .isa import Isa
from .matmul import MatmulWork
from .sparse_matmul import SparseMatmul, SparseWork
from .stored_matmul import StoredMatmul, StoredWork

__all__ = ["AnyRowsSparse", "AnyRowsStored"]

_AT_ONCE = 4  # rows of activations that use a block of weights while it is in a register


@dataclass(eq=False)
class AnyRowsStored(StoredMatmul):
    """`left`: (M, K), `out`: (M, N), M known at run time. A panel is decoded once for all rows."""

    def __post_init__(self) -> None:
        self.tile_name = f"{self.tile[0]}x{self.tile[1]}v"

    @property
    def key(self) -> tuple[Any, ...]:
        return ("any-rows", *super().key)

    def part(self, isa: Isa) -> int:
        """All inputs: sums of an unknown number of rows cannot be kept."""
        return self.strips.padded(self.sizes[1])

    def work(
        self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None, index: list[Any]
    ) -> MatmulWork:
        return _StoredWork(self, b, pointers, scratch, index, self)

    @contextmanager
    def _matrices(self, b: Builder, shared: bool) -> Iterator[list[Any]]:
        assert len(self.out.shape) == 2
        yield []


@dataclass
class _StoredWork(StoredWork):
    def row_blocks(self, first: Any, blocks: Any) -> Iterator[tuple[Any, int]]:
        return any_blocks(self.b, self.kernel.sizes[0], self.kernel.tile[0], first, blocks)


@dataclass(eq=False)
class AnyRowsSparse(SparseMatmul):
    """The same of R×1 blocks: `left` (M, K) and `out` (M, N)."""

    @property
    def key(self) -> tuple[Any, ...]:
        return ("any-rows", *super().key)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        work = SparseWork(self, b, pointers)
        full, rest = divmod(self.out.shape[0], _AT_ONCE)
        with b.loop(full) as i:
            work.rows(b.let(i * _AT_ONCE), _AT_ONCE)
        for first, count in rest_tiles(b, int32(full * _AT_ONCE), int32(rest), _AT_ONCE):
            work.rows(first, count)
