"""Products of int8 weights and int8 or uint8 activations, summed in int32: matrices and convolutions alike.

    out[p, m] = finish(bias[m] + Σ_t Σ_k  x[at(p) + tap(t) + k] · weights[m, t, k])

Output pixels p (or rows of a matrix) lie apart by fixed distances in the source, and so do taps; behind each
tap a run of neighbouring bytes is read. A tile is rows × columns of pixels times a few vectors of outputs:
weights are vectors, activations are broadcast in groups of `dot.depth`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx as tir

from ..dims import is_fixed, may_turn
from .any_rows import rest_tiles
from .builder import Builder, Pointer, int32
from .integer_dot import Dot
from .integer_epilogue import Finish, Spot
from .integer_sums import PlainSums
from .kernel import Kernel
from .lazy import Leaf
from .register_tile import RegisterTile, tile_runs
from .tensor import Tensor

__all__ = ["IntegerProduct", "Reach", "Work"]

_WHOLE = 8  # steps of a sum that are written out without a loop


@dataclass(frozen=True)
class Reach:
    """Which activations an output pixel reads; distances count elements of the source.

    `pixels` are images, rows and columns of output pixels, `steps` the distances between them, `taps` loops
    (count, distance) around a `run` of neighbours; groups of outputs read `group` apart.
    """

    pixels: tuple[int, int, int]
    steps: tuple[int, int, int]
    taps: tuple[tuple[int, int], ...]
    run: int
    groups: int = 1
    group: int = 0


@dataclass(eq=False)
class IntegerProduct(Kernel):
    """`weights`: packed panels of `tile[2]` vectors; `bias`: int32, whole vectors for each group.

    `out` holds `outputs` channels of a group side by side, its pixels `out_steps` apart; `room` elements of a
    group may be written.
    """

    source: Tensor
    weights: Tensor
    bias: Tensor
    out: Tensor
    reach: Reach
    out_steps: tuple[int, int, int]
    outputs: int
    room: int
    tile: tuple[int, int, int]
    dot: Dot
    finish: Finish | PlainSums
    family = "integer-gemm"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, self.weights, self.bias, *self.finish.tensors]
        return list({id(t): t for t in own}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        own = (
            self.reach,
            self.out_steps,
            self.outputs,
            self.room,
            self.tile,
            *self.dot.key,
        )
        return ("integer-product", *own, self.finish.key(self.reads()), *tensors)

    @property
    def strips(self) -> int:
        """Vectors of outputs of one group."""
        return -(-self.outputs // self.dot.lanes)

    @property
    def depth(self) -> int:
        """Steps of one output's sum."""
        return prod(count for count, _ in self.reach.taps) * -(-self.reach.run // self.dot.depth)

    # ---- code -------------------------------------------------------------------------------
    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        images, rows, _ = self.reach.pixels
        blocks = -(-rows // self.tile[0])
        with b.each(images) as n, b.each(self.reach.groups) as g:
            work = Work(self, b, pointers, n, g)
            for first, width, count in tile_runs(self.strips, self.tile[2]):
                with b.split_grid(count, blocks) as (t, block, here):
                    work.panel(b.let(t * width + first, "strip"), width, block, here)


@dataclass
class Work:
    """The code for one image and group.

    `activations` replaces the source: a copy of what lies from the element `origin` on; `panels` replaces the
    weights likewise.
    """

    kernel: IntegerProduct
    b: Builder
    pointers: dict[int, Pointer]
    n: Any
    g: Any
    activations: Pointer | None = None
    origin: Any = 0
    panels: Pointer | None = None
    panels_origin: Any = 0

    @property
    def _whole(self) -> int:
        """Steps without a loop; engines run short of registers where several are written out."""
        return 1 if self.kernel.dot.isa.target.broadcast == "all" else _WHOLE

    def panel(self, strip: Any, width: int, first: Any, blocks: Any) -> None:
        """`blocks` blocks of rows of pixels from the `first`, for `width` vectors of outputs."""
        for y, height in self._rows(first, blocks):
            for x, wide in self._columns():
                self._tile(strip, width, y, height, x, wide)

    def _rows(self, first: Any, blocks: Any) -> Iterator[tuple[Any, int]]:
        k, b = self.kernel, self.b
        full, tail = divmod(k.reach.pixels[1], k.tile[0])
        if may_turn(full):
            end = b.let(tir.min(first + blocks, int32(full)))
            with b.loop(b.let(end - first), first) as block:
                yield b.let(block * k.tile[0], "y"), k.tile[0]
        if not is_fixed(tail):
            with b.when(first + blocks > int32(full)):
                yield from rest_tiles(b, int32(full * k.tile[0]), int32(tail), k.tile[0])
        elif tail:
            with b.when(first + blocks > full):
                yield int32(full * k.tile[0]), tail

    def _columns(self) -> Iterator[tuple[Any, int]]:
        k, b = self.kernel, self.b
        full, tail = divmod(k.reach.pixels[2], k.tile[1])
        if full:
            with b.each(full) as block:
                yield b.let(block * k.tile[1], "x"), k.tile[1]
        if tail:
            yield int32(full * k.tile[1]), tail

    def _tile(self, strip: Any, width: int, y: Any, height: int, x: Any, wide: int) -> None:
        k, b, lanes = self.kernel, self.b, self.kernel.dot.lanes
        tile = RegisterTile(b, height * wide, width, lanes, "int32")
        bias = self.pointers[id(k.bias)]
        place = b.let((self.g * k.strips + strip) * lanes, "m")
        tile.start(lambda r, j: bias.load(place + j * lanes, lanes))
        self._sum(tile, strip, y, x, wide)
        out: Any = sum(i * s for i, s in zip((self.n, y, x), k.out_steps, strict=True))
        channel = b.let(self.g * k.outputs + strip * lanes, "channel")
        base = b.let(out + channel, "at")
        for r in range(tile.rows):
            at = base + (r // wide * k.out_steps[1] + r % wide * k.out_steps[2])
            self._store([tile.get(r, j) for j in range(width)], strip, Spot(place, channel, at))

    def _store(self, sums: list[Any], strip: Any, spot: Spot) -> None:
        """Vectors of the last panel may hold more outputs than there is room for."""
        k, b, lanes = self.kernel, self.b, self.kernel.dot.lanes
        first, whole = k.strips - len(sums), len(sums) * lanes
        keep = k.room - first * lanes
        if keep >= whole:
            k.finish.store(b, self.pointers, sums, spot, k.out, whole)
            return
        with b.when(tir.EQ(strip, int32(first))):
            k.finish.store(b, self.pointers, sums, spot, k.out, keep)
        if first > 0:
            with b.when(tir.NE(strip, int32(first))):
                k.finish.store(b, self.pointers, sums, spot, k.out, whole)

    def _sum(self, tile: RegisterTile, strip: Any, y: Any, x: Any, wide: int) -> None:
        k, b, reach = self.kernel, self.b, self.kernel.reach
        pitch = tile.vectors * k.dot.lanes * k.dot.depth
        steps = -(-reach.run // k.dot.depth)
        place = zip((self.n, y, x, self.g), (*reach.steps, reach.group), strict=True)
        start: Any = sum(i * s for i, s in place)
        at = b.let(start - self.origin, "from")
        panel = (self.g * k.strips + strip) * (k.depth * k.dot.lanes * k.dot.depth)
        self._taps(tile, wide, at, b.let(panel - self.panels_origin, "w"), list(reach.taps), steps, pitch)

    def _taps(
        self,
        tile: RegisterTile,
        wide: int,
        at: Any,
        w: Any,
        taps: list[tuple[int, int]],
        steps: int,
        pitch: int,
    ) -> None:
        """Loops over taps, the last one's steps innermost."""
        b = self.b
        if not taps:
            self._run(tile, wide, at, w, steps, pitch)
            return
        (count, distance), rest = taps[0], taps[1:]
        inner = steps * pitch * prod(n for n, _ in rest)
        if count * inner // pitch <= self._whole:
            for t in range(count):
                self._taps(tile, wide, at + t * distance, w + t * inner, rest, steps, pitch)
            return
        with b.each(count) as t:
            self._taps(tile, wide, b.let(at + t * distance), b.let(w + t * inner), rest, steps, pitch)

    def _run(self, tile: RegisterTile, wide: int, at: Any, w: Any, steps: int, pitch: int) -> None:
        b, depth = self.b, self.kernel.dot.depth
        unroll = steps if steps <= self._whole else min(self._whole, 4)
        turns, tail = divmod(steps, unroll)
        if turns:
            with b.each(turns) as i:
                first = b.let(at + i * (unroll * depth))
                self._steps(tile, wide, first, b.let(w + i * (unroll * pitch)), unroll, pitch)
        if tail:
            done = turns * unroll
            self._steps(tile, wide, at + done * depth, w + done * pitch, tail, pitch)

    def _steps(self, tile: RegisterTile, wide: int, at: Any, w: Any, count: int, pitch: int) -> None:
        k, b, dot = self.kernel, self.b, self.kernel.dot
        source = self.activations or self.pointers[id(k.source)]
        weights = self.panels or self.pointers[id(k.weights)]
        _, row, column = k.reach.steps
        places = [at + (r // wide * row + r % wide * column) for r in range(tile.rows)]
        spread = [dot.broadcasts(b, source, place, count) for place in places]
        for u in range(count):
            columns = [
                b.let(dot.weights(weights, w + (u * pitch + j * dot.lanes * dot.depth)), "bv")
                for j in range(tile.vectors)
            ]
            for r in range(tile.rows):
                x = b.let(spread[r](u), "av")
                for j, column_weights in enumerate(columns):
                    tile.set(r, j, dot.accumulate(b, tile.get(r, j), x, column_weights))
