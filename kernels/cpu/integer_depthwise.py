"""Depthwise convolution of pixel-major int8 or uint8 images: every lane is a channel.

A block of output rows of a unit of channels is computed in two steps. First the input rows that it needs,
padded with the zero point, are interleaved into scratch, `depth` rows side by side (`tap_dot.py`). Then tiles
of output pixels are summed: a vector of scratch serves every row and column of the tile whose window contains
it, and inner loops have no borders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .depthwise_plan import DepthwisePlan
from .integer_epilogue import Finish, Spot
from .isa import Isa
from .kernel import Kernel
from .lazy import Leaf
from .narrowing import packed_within
from .register_tile import RegisterTile
from .tap_dot import VECTORS
from .tensor import Tensor

__all__ = ["IntegerDepthwise"]


@dataclass(eq=False)
class IntegerDepthwise(Kernel):
    """`source` and `out`: images (N, C, H, W) and (N, C, OH, OW), pixel-major with a pitch of whole units.

    `weights`: as `plan.pack` gives them; `bias`: int32, as `plan.ordered` gives it, less the weights' sums
    times the zero point as `plan.dot` reads it. `finish` stores the sums: its rows are `plan.ordered` where
    it is `shuffled`, which it must not be if it reads images or rows of channels, else `plan.spread`.
    """

    source: Tensor
    weights: Tensor
    bias: Tensor
    out: Tensor
    plan: DepthwisePlan
    zero_point: int
    finish: Finish
    shuffled: bool
    family = "integer-depthwise"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, self.weights, self.bias, *self.finish.tensors]
        return list({id(t): t for t in own}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        own = (self.plan.window, self.plan.rows, self.plan.dot.name, self.zero_point, self.shuffled)
        return ("integer-depthwise", *own, self.finish.key(self.reads()), *tensors)

    @property
    def pixel_words(self) -> int:
        """Scratch of one column."""
        return len(self.plan.groups) * VECTORS * self.plan.dot.words

    def scratch_bytes(self, isa: Isa) -> int:
        return 4 * self.plan.columns * self.pixel_words

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        plan = self.plan
        height = plan.window.out_size[0]
        starts = plan.starts(self.source.shape[1])
        units, blocks = len(starts), -(-height // plan.rows)
        work = _Work(self, b, pointers, scratch)
        work.margins()
        with b.split(self.source.shape[0] * blocks * units) as i:
            unit = b.let(tir.truncmod(i, int32(units)), "unit")
            channel = b.let(tir.min(unit * plan.dot.unit, int32(starts[-1])), "channel")
            block = b.let(tir.truncdiv(i, int32(units)), "block")
            n = b.let(tir.truncdiv(block, int32(blocks)), "n")
            # the last block ends with the plane
            y = b.let(tir.min((block - n * blocks) * plan.rows, int32(height - plan.rows)), "y")
            work.join(n, y, channel)
            work.sum(n, y, unit, channel)


@dataclass
class _Work:
    kernel: IntegerDepthwise
    b: Builder
    pointers: dict[int, Pointer]
    scratch: Pointer

    @property
    def plan(self) -> DepthwisePlan:
        return self.kernel.plan

    @cached_property
    def outside(self) -> Any:
        """A vector of what lies outside the plane, of the source's type."""
        k = self.kernel
        return constant(k.zero_point, k.source.dtype, self.plan.dot.unit)

    def margins(self) -> None:
        """Columns left and right of the plane, once for all blocks."""
        plan, pads = self.plan, self.plan.window.pads
        inside = range(pads[1], pads[1] + plan.window.in_size[1])
        rows = [self.outside] * plan.dot.depth
        for column in range(plan.columns):
            for g in range(len(plan.groups) if column not in inside else 0):
                self._join(column * self.kernel.pixel_words, g, rows)

    def _join(self, place: Any, group: int, rows: list[Any]) -> None:
        """Interleaves rows into the scratch of a column."""
        dot = self.plan.dot
        for v, part in enumerate(dot.joined(self.b, rows)):
            self.b.store(self.scratch, place + (group * VECTORS + v) * dot.words, part)

    def join(self, n: Any, y: Any, channel: Any) -> None:
        """Interleaves the rows of the block at output row `y`, between the margins."""
        k, b, plan = self.kernel, self.b, self.plan
        w = plan.window
        count = min(w.in_size[1], plan.columns - w.pads[1])
        if count <= 0:
            return
        height, pitch = w.in_size[0], k.source.strides[2]
        top = b.let(y * w.strides[0] - w.pads[0], "top")
        start = b.let(n * k.source.strides[0] + channel, "from")
        first = b.let(start + top * pitch, "at")
        whole = tir.And(top >= 0, top + plan.needed[-1] < height)
        with b.when(whole), b.loop(count) as x:
            at = b.let(first + x * k.source.strides[3], "at")
            self._column(x, {i: (at + i * pitch, None) for i in plan.needed})
        clamped: dict[int, tuple[Any, Any]] = {}
        with b.when(tir.Not(whole)):
            for i in plan.needed:
                row = b.let(tir.max(tir.min(top + i, int32(height - 1)), int32(0)), "row")
                clamped[i] = (b.let(start + row * pitch, "row"), tir.EQ(row, top + i))
            with b.loop(count) as x:
                column = x * k.source.strides[3]
                self._column(x, {i: (at + column, inside) for i, (at, inside) in clamped.items()})

    def _column(self, x: Any, rows: dict[int, tuple[Any, Any]]) -> None:
        k, b, plan = self.kernel, self.b, self.plan
        source, unit = self.pointers[id(k.source)], plan.dot.unit
        place = b.let((x + plan.window.pads[1]) * k.pixel_words, "to")
        for g, group in enumerate(plan.groups):
            vectors = []
            for i in group:
                at, inside = rows[i]
                vector = source.load(at, unit)
                if inside is not None:
                    vector = tir.Select(tir.Broadcast(inside, unit), vector, self.outside)
                vectors.append(b.hold(vector))
            vectors += [vectors[-1]] * (plan.dot.depth - len(vectors))  # their weights are zero
            self._join(place, g, vectors)

    def sum(self, n: Any, y: Any, unit: Any, channel: Any) -> None:
        """All tiles of the block; the last one ends with the rows."""
        b, width, columns = self.b, self.plan.window.out_size[1], self.plan.tile_columns
        tiles = -(-width // columns)
        with b.each(tiles) as t:
            x = b.let(tir.min(t * columns, int32(width - columns)), "x") if tiles > 1 else int32(0)
            self._tile(n, y, unit, channel, x)

    def _tile(self, n: Any, y: Any, unit: Any, channel: Any, x: Any) -> None:
        k, b, plan = self.kernel, self.b, self.plan
        dot, columns = plan.dot, plan.tile_columns
        tile = RegisterTile(b, plan.rows * columns, VECTORS, dot.lanes, "int32")
        place = b.let(unit * dot.unit, "place")
        bias = self.pointers[id(k.bias)]
        for v in range(VECTORS):
            start = b.let(bias.load(place + v * dot.lanes, dot.lanes), "bias")
            for r in range(tile.rows):
                tile.set(r, v, start)
            self._products(tile, unit, x, v)
        out = k.out.strides
        base = b.let(n * out[0] + y * out[2] + x * out[3] + channel, "to")
        for r in range(tile.rows):
            spot = Spot(place, channel, base + (r // columns * out[2] + r % columns * out[3]))
            self._store([tile.get(r, v) for v in range(VECTORS)], spot)

    def _products(self, tile: RegisterTile, unit: Any, x: Any, vector: int) -> None:
        """Sums of one vector of channels, by columns of scratch, each loaded once."""
        k, b, plan = self.kernel, self.b, self.plan
        w, dot, columns = plan.window, plan.dot, plan.tile_columns
        start = b.let(x * (w.strides[1] * k.pixel_words), "at")
        each, count = dot.unit * dot.depth, len(plan.products)
        first = b.let(unit * (w.kernel[1] * count * each) + vector * dot.lanes * dot.depth, "w")
        weights = [
            b.let(dot.weights(self.pointers[id(k.weights)], first + i * each), "wv")
            for i in range(w.kernel[1] * count)
        ]
        for column, uses in self._columns(columns):
            for g in range(len(plan.groups)):
                place = start + (column * k.pixel_words + (g * VECTORS + vector) * dot.words)
                activations = b.let(dot.load(self.scratch, place), "xv")
                for p, (r, own) in enumerate(plan.products):
                    for c, kx in uses if own == g else ():
                        at = r * columns + c
                        taps = weights[kx * count + p]
                        tile.set(at, vector, dot.accumulate(b, tile.get(at, vector), activations, taps))

    def _columns(self, columns: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Columns of scratch, from the tile's first, with (tile column, window column) that meet there."""
        w = self.plan.window
        meet: dict[int, list[tuple[int, int]]] = {}
        for kx in range(w.kernel[1]):
            for c in range(columns):
                meet.setdefault(c * w.strides[1] + kx * w.dilations[1], []).append((c, kx))
        yield from sorted(meet.items())

    def _store(self, sums: list[Any], spot: Spot) -> None:
        k, b, dot = self.kernel, self.b, self.plan.dot
        finish = k.finish
        if not k.shuffled:
            finish.store(b, self.pointers, dot.natural(b, sums), spot, k.out, dot.unit)
            return
        assert finish.requantize is not None
        values = [
            finish.value(b, self.pointers, s, spot.next(v * dot.lanes), k.out) for v, s in enumerate(sums)
        ]
        q = finish.requantize
        integers = [b.hold(q.integers(b, value, dot.lanes)) for value in values]
        packed = b.hold(packed_within(b, integers, q.dtype, q.low, q.high))
        b.store(self.pointers[id(k.out)], spot.at, finish.looked_up(b, self.pointers, packed))
