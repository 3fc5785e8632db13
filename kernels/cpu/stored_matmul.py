"""Matrix product whose weight is decoded panel by panel, in parts of its inputs that stay in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .decoded_panels import StoredStrips, decode_panel
from .isa import Isa
from .matmul import Matmul, MatmulWork
from .register_tile import RegisterTile
from .tensor import Tensor

__all__ = ["StoredMatmul", "StoredWork"]

_MOST_ROWS = 512  # whose unfinished sums are kept: more read a panel so often that decoding it does not count


@dataclass(eq=False)
class StoredMatmul(Matmul):
    """Strips of one vector of columns in place of `panels`."""

    stored: StoredStrips | None = None

    @property
    def strips(self) -> StoredStrips:
        assert self.stored is not None
        return self.stored

    @property
    def family(self) -> str:  # type: ignore[override]
        return "gemm"

    def reads(self) -> Sequence[Tensor]:
        return list({id(t): t for t in (*self.strips.tensors, *super().reads())}.values())

    @property
    def key(self) -> tuple[Any, ...]:
        return (*super().key, self.strips.key)

    def part(self, isa: Isa) -> int:
        """Inputs that are decoded at a time: a panel of them fills a part of the cache."""
        depth, step = self.strips.padded(self.sizes[1]), self.strips.inputs_of_step
        fitting = isa.target.l2_bytes // 4 // (4 * self.tile[1] * isa.lanes) // step * step
        whole = self.sizes[0] > _MOST_ROWS or self.by_lanes(isa)
        return depth if whole else min(depth, max(step, fitting))

    def scratch_parts(self, isa: Isa) -> tuple[int, int]:
        """Elements of a decoded panel, and of unfinished sums."""
        part, columns = self.part(isa), self.tile[1] * isa.lanes
        return part * columns, self.sizes[0] * columns if part < self.sizes[1] else 0

    def scratch_bytes(self, isa: Isa) -> int:
        return 4 * sum(self.scratch_parts(isa))

    def work(
        self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None, index: list[Any]
    ) -> MatmulWork:
        return StoredWork(self, b, pointers, scratch, index, self)


@dataclass
class StoredWork(MatmulWork):
    """The code for one matrix of the batch."""

    stored: StoredMatmul

    def column_tile(self, vector: Any, width: int, first: Any, blocks: Any) -> None:
        """`blocks` blocks of rows from the `first`, of `width` vectors of columns from `vector`."""
        k, b, part = self.stored, self.b, self.stored.part(self.b.isa)
        assert self.scratch is not None
        if part >= k.sizes[1]:
            self._decode(vector, width, None)
            for tile, row in self._tiles(width, first, blocks):
                tile.start(self.bias(vector))
                self.sum(tile, row, self.scratch, int32(0))
                self.store(tile, row, vector)
            return
        for tile, row in self._tiles(width, first, blocks):
            tile.start(self.bias(vector))
            self._keep(tile, row)
        with b.loop(-(-k.sizes[1] // part)) as i:
            start = b.let(i * part)
            some = start, b.let(tir.min(int32(part), k.sizes[1] - start))
            self._decode(vector, width, some)
            for tile, row in self._tiles(width, first, blocks):
                tile.start(self._kept(row, width))
                self.sum(tile, row, self.scratch, int32(0), some)
                self._keep(tile, row)
        for tile, row in self._tiles(width, first, blocks):
            tile.start(self._kept(row, width))
            self.store(tile, row, vector)

    def _tiles(self, width: int, first: Any, blocks: Any) -> Iterator[tuple[RegisterTile, Any]]:
        """A tile for every block of rows, and its first row."""
        for row, height in self.row_blocks(first, blocks):
            yield RegisterTile(self.b, height, width, self.b.isa.lanes), row

    def _decode(self, vector: Any, width: int, some: tuple[Any, Any] | None) -> None:
        """The panel of `width` vectors, or (first input, inputs) of it."""
        k = self.stored
        assert self.scratch is not None
        place = self.scratch, int32(0), some
        decode_panel(self.b, self.pointers, k.strips, k.sizes[1], vector, width, *place)

    def _place(self, row: Any, r: int, j: int, width: int) -> Any:
        """Where the unfinished sum of a row and vector is kept."""
        lanes = self.b.isa.lanes
        return (row + r) * (width * lanes) + (self.stored.scratch_parts(self.b.isa)[0] + j * lanes)

    def _keep(self, tile: RegisterTile, row: Any) -> None:
        def write(r: int, j: int, value: Any) -> None:
            assert self.scratch is not None
            self.b.store(self.scratch, self._place(row, r, j, tile.vectors), value)

        tile.finish(write)

    def _kept(self, row: Any, width: int) -> Callable[[int, int], Any]:
        def read(r: int, j: int) -> Any:
            assert self.scratch is not None
            return self.scratch.load(self._place(row, r, j, width), self.b.isa.lanes)

        return read
