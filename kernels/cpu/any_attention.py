"""Attention of any number of queries and keys, with what is left behind whole tiles.

Two vectors of queries are a tile where so many are left, else one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .any_rows import rest_tiles
from .attention import Attention
from .attention_tile import AttentionTile
from .builder import Builder, Pointer, constant, int32
from .isa import Isa
from .register_tile import best_tile

__all__ = ["AnyAttention"]

_MANY = 1 << 10  # keys and queries for which tiles are chosen
_VECTORS = 2


@dataclass(eq=False)
class AnyAttention(Attention):
    """Operands as `Attention` takes them, row-major; turned keys may have stride 1 along the keys."""

    family = "any-attention"

    @property
    def key(self) -> tuple[Any, ...]:
        return ("any-attention", *super().key)

    def tile(self, isa: Isa) -> tuple[int, int]:
        return best_tile(isa, _MANY, _VECTORS, most_vectors=_VECTORS)[0], _VECTORS

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        batch, heads = self.out.shape[:2]
        step = _VECTORS * b.isa.lanes
        tiles = (self.queries + (step - 1)) // step
        with b.split(batch * heads * tiles) as unit:
            head = b.let(tir.truncdiv(unit, int32(tiles)))
            n, h = b.let(tir.truncdiv(head, int32(heads))), b.let(tir.truncmod(head, int32(heads)))
            first = b.let((unit - head * int32(tiles)) * step)
            left = b.let(int32(self.queries) - first)
            with b.when(left > b.isa.lanes):
                _Tile(self, b, pointers, scratch, n, h, first).compute()
            with b.when(left <= b.isa.lanes):
                _Tile(self, b, pointers, scratch, n, h, first, most=1).compute()


@dataclass
class _Tile(AttentionTile):
    most: int = _VECTORS  # vectors of queries

    def __post_init__(self) -> None:
        self.lanes, self.vectors = self.b.isa.lanes, self.most
        self.height = best_tile(self.b.isa, _MANY, self.most, most_vectors=self.most)[0]
        self.row = self.vectors * self.lanes
        self.sums = self.kernel.keys * self.row
        self.turned = self.sums + self.row

    def _scores(self, queries: Callable[[Any, int], Any]) -> list[Pointer]:
        k, b = self.kernel, self.b
        peaks = [b.stack("float32", self.lanes) for _ in range(self.vectors)]
        for peak in peaks:
            b.store(peak, 0, constant(float("-inf"), "float32", self.lanes))
        full, rest = divmod(k.keys, self.height)
        start, mask = self._start(k.key_), None if k.mask is None else self._start(k.mask)
        with b.loop(full) as block:
            self._score_rows(b.let(block * self.height), self.height, queries, peaks, start, mask)
        for first, height in rest_tiles(b, int32(full * self.height), int32(rest), self.height):
            self._score_rows(first, height, queries, peaks, start, mask)
        return peaks
