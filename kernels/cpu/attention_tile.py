"""The code of attention for one tile of queries: scores, softmax, and the mix of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm import tirx as tir

from . import vectormath as vm
from .arithmetic import maximum
from .builder import Builder, Pointer, constant, int32
from .register_tile import RegisterTile, best_tile, scalars
from .storing import store_first
from .tensor import Tensor
from .transposing import turned

if TYPE_CHECKING:
    from .attention import Attention

__all__ = ["AttentionTile"]


@dataclass
class AttentionTile:
    """One tile of queries from `first`, of one head."""

    kernel: Attention
    b: Builder
    pointers: dict[int, Pointer]
    scratch: Pointer  # scores (keys, row), sums (row), turned queries (width, row)
    n: Any
    h: Any
    first: Any

    def __post_init__(self) -> None:
        self.lanes = self.b.isa.lanes
        self.height, self.vectors = self.kernel.tile(self.b.isa)
        self.row = self.vectors * self.lanes
        self.sums = self.kernel.keys * self.row
        self.turned = self.sums + self.row

    def _start(self, tensor: Tensor) -> Any:
        """Offset of this head's matrix."""
        places = zip((self.n, self.h), tensor.shape[:2], tensor.strides[:2], strict=True)
        total: Any = int32(0)
        for place, extent, stride in places:
            total = total + place * stride if extent != 1 else total
        return self.b.let(total)

    def compute(self) -> None:
        queries = self._queries()
        peaks = self._scores(queries)
        self._softmax(peaks)
        if self.kernel.in_planes:
            self._mix_planes()
        else:
            self._mix_rows()

    # ---- scores -----------------------------------------------------------------------------
    def _queries(self) -> Callable[[Any, int], Any]:
        """Reads queries' element d as vectors of queries."""
        k, lanes = self.kernel, self.lanes
        source, start = self.pointers[id(k.query)], self._start(k.query)
        if not k.turns_queries:
            stride = k.query.strides[3]
            return lambda d, j: source.load(start + d * stride + self.first + j * lanes, lanes)
        for j in range(self.vectors):
            self._turn(source, start, j)
        return lambda d, j: self.scratch.load(self.turned + d * self.row + j * lanes, lanes)

    def _turn(self, source: Pointer, start: Any, j: int) -> None:
        """Turns one vector of queries; those past the last are read as the last."""
        k, b, lanes = self.kernel, self.b, self.lanes
        last = int32(k.queries - 1)
        rows = [
            b.let(start + tir.min(self.first + (j * lanes + i), last) * k.query.strides[2])
            for i in range(lanes)
        ]
        full, tail = divmod(k.query.shape[3], lanes)
        if full:
            with b.loop(full) as block:
                square = [b.hold(source.load(row + block * lanes, lanes)) for row in rows]
                for i, vector in enumerate(turned(b, square)):
                    place = self.turned + (block * lanes + i) * self.row + j * lanes
                    b.store(self.scratch, place, vector)
        if tail:
            with b.loop(tail, full * lanes) as d:
                for i, row in enumerate(rows):
                    b.store(self.scratch, self.turned + d * self.row + (j * lanes + i), source.load(row + d))

    def _scores(self, queries: Callable[[Any, int], Any]) -> list[Pointer]:
        """Writes scaled and masked scores; the largest of every query, in registers."""
        k, b = self.kernel, self.b
        peaks = [b.stack("float32", self.lanes) for _ in range(self.vectors)]
        for peak in peaks:
            b.store(peak, 0, constant(float("-inf"), "float32", self.lanes))
        full, tail = divmod(k.keys, self.height)
        start, mask = self._start(k.key_), None if k.mask is None else self._start(k.mask)
        if full:
            with b.loop(full) as block:
                self._score_rows(b.let(block * self.height), self.height, queries, peaks, start, mask)
        if tail:
            self._score_rows(int32(full * self.height), tail, queries, peaks, start, mask)
        return peaks

    def _score_rows(
        self,
        key: Any,
        height: int,
        queries: Callable[[Any, int], Any],
        peaks: list[Pointer],
        start: Any,
        mask: Any,
    ) -> None:
        k, b = self.kernel, self.b
        keys, (along, across) = self.pointers[id(k.key_)], k.key_.strides[2:]
        tile = RegisterTile(b, height, self.vectors, self.lanes)
        tile.start()
        rows = [b.let(start + (key + r) * along) for r in range(height)]
        with b.loop(k.key_.shape[3]) as d:
            neighbours = scalars(b, keys, rows[0] + d * across, height) if along == 1 else None
            tile.accumulate(
                neighbours or (lambda r: keys.load(rows[r] + d * across)), lambda j: queries(d, j)
            )

        def write(r: int, j: int, value: Any) -> None:
            value = value * constant(self.kernel.scale, "float32", self.lanes)
            if mask is not None:
                value = value + self._mask(mask, key + r, j)
            value = b.hold(value)
            b.store(self.scratch, (key + r) * self.row + j * self.lanes, value)
            b.store(peaks[j], 0, maximum(peaks[j].load(0, self.lanes), value))

        tile.finish(write)

    def _mask(self, start: Any, key: Any, j: int) -> Any:
        tensor = self.kernel.mask
        assert tensor is not None
        pointer = self.pointers[id(tensor)]
        at = start + key * tensor.strides[3] if tensor.shape[3] != 1 else start
        if tensor.shape[2] == 1:
            return tir.Broadcast(pointer.load(at), self.lanes)
        last = int32(self.kernel.queries - 1)
        spill = self.b.stack("float32", self.lanes)
        for lane in range(self.lanes):
            query = tir.min(self.first + (j * self.lanes + lane), last)
            self.b.store(spill, lane, pointer.load(at + query * tensor.strides[2]))
        return spill.load(0, self.lanes)

    def _softmax(self, peaks: list[Pointer]) -> None:
        """Turns scores into powers, and writes the inverse of their sums."""
        b, lanes = self.b, self.lanes
        totals = [b.stack("float32", lanes) for _ in peaks]
        for total in totals:
            b.store(total, 0, constant(0.0, "float32", lanes))
        with b.loop(self.kernel.keys) as key:
            for j, (peak, total) in enumerate(zip(peaks, totals, strict=True)):
                at = b.let(key * self.row + j * lanes)
                power = b.hold(vm.exp(b, b.hold(self.scratch.load(at, lanes) - peak.load(0, lanes))))
                b.store(self.scratch, at, power)
                b.store(total, 0, total.load(0, lanes) + power)
        for j, total in enumerate(totals):
            inverse = constant(1.0, "float32", lanes) / total.load(0, lanes)
            b.store(self.scratch, self.sums + j * lanes, inverse)

    # ---- mixing -----------------------------------------------------------------------------
    def _mix_planes(self) -> None:
        """Vectors of queries, for a few elements of the values at once."""
        k, b, lanes = self.kernel, self.b, self.lanes
        values, start, across = self.pointers[id(k.value)], self._start(k.value), k.value.strides[3]
        out, to = self.pointers[id(k.out)], self._start(k.out)
        width = k.value.shape[3]
        height = best_tile(b.isa, width, self.vectors, most_vectors=self.vectors)[0]
        full, tail = divmod(width, height)

        def rows(first: Any, count: int) -> None:
            tile = RegisterTile(b, count, self.vectors, lanes)
            tile.start()
            places = [b.let(start + (first + r) * across) for r in range(count)]
            with b.loop(k.keys) as key:
                tile.accumulate(
                    lambda r: values.load(places[r] + key * k.value.strides[2]),
                    lambda j: self.scratch.load(key * self.row + j * lanes, lanes),
                )

            def write(r: int, j: int, value: Any) -> None:
                inverse = self.scratch.load(self.sums + j * lanes, lanes)
                place = to + (first + r) * k.out.strides[3] + self.first + j * lanes
                self._store_planes(out, place, j, value * inverse)

            tile.finish(write)

        if full:
            with b.loop(full) as block:
                rows(b.let(block * height), height)
        if tail:
            rows(int32(full * height), tail)

    def _store_planes(self, out: Pointer, place: Any, j: int, value: Any) -> None:
        """Whole vectors; one that lies past the last query would belong to the next plane."""
        if self.kernel.queries % self.row == 0 or j == 0:
            self.b.store(out, place, value)
            return
        value = self.b.hold(value)
        with self.b.when(self.first + j * self.lanes < self.kernel.queries):
            self.b.store(out, place, value)

    def _mix_rows(self) -> None:
        """Vectors of the values' elements, for a few queries at once."""
        k, b, lanes = self.kernel, self.b, self.lanes
        vectors = -(-k.value.shape[3] // lanes)
        width = min(4, vectors)
        most = best_tile(b.isa, self.row, width, most_vectors=width)[0]
        height = max(h for h in range(1, most + 1) if self.row % h == 0)
        with b.loop(self.row // height) as block:
            query = b.let(block * height)
            for first in range(0, vectors, width):
                self._mix_row_tile(query, height, first, min(width, vectors - first))

    def _mix_row_tile(self, query: Any, height: int, first: int, width: int) -> None:
        k, b, lanes = self.kernel, self.b, self.lanes
        values, start = self.pointers[id(k.value)], self._start(k.value)
        out, to = self.pointers[id(k.out)], self._start(k.out)
        tile = RegisterTile(b, height, width, lanes)
        tile.start()
        with b.loop(k.keys) as key:
            at = b.let(start + key * k.value.strides[2])
            p = b.let(key * self.row + query)
            tile.accumulate(
                scalars(b, self.scratch, p, height), lambda j: values.load(at + (first + j) * lanes, lanes)
            )

        def write(r: int, j: int, value: Any) -> None:
            inverse = tir.Broadcast(self.scratch.load(self.sums + query + r), lanes)
            keep = min(lanes, k.value.shape[3] - (first + j) * lanes)
            result = b.hold(value * inverse)
            index = b.let(self.first + query + r)
            place = to + index * k.out.strides[2] + (first + j) * lanes
            if k.queries % self.row == 0:
                store_first(b, out, place, result, lanes, keep)
                return
            with b.when(index < k.queries):
                store_first(b, out, place, result, lanes, keep)

        tile.finish(write)
