"""3×3 convolutions of stride 1 in integers by Winograd's F(2×2), exact, where products are of int16 pairs.

    4 · y = Aᵀ [ (2G g 2Gᵀ) ⊙ (Bᵀ d B) ] A       (Lavin and Gray 2016, arXiv:1509.09308)

Twice G is whole: weights become at most 9 · 128, activations 4 · 255, which are int16, so that a quarter of
the result is y without rounding. Of 36 products 16 are left. Transformed weights would be four times as
large, so they are transformed strip by strip while they are used.

    v[ξ][t][c]  transformed tiles of a block     u[ξ][s]  transformed weights of a strip     m[ξ][r]  sums
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .integer_dot import Dot
from .integer_epilogue import Finish, Spot
from .integer_sums import PlainSums
from .isa import Isa
from .kernel import Kernel
from .lazy import Leaf
from .register_tile import RegisterTile
from .tensor import Tensor

__all__ = ["IntegerWinograd"]

_POINTS = 16
_BLOCK_BYTES = 1 << 19  # of transformed tiles
_ALIGNED = 64


@dataclass(eq=False)
class IntegerWinograd(Kernel):
    """`source`: an image (N, C, H + 2, W + 2) with its margin, pixel-major; `out` (N, O, H, W) likewise.

    `weights` [strips of `width` vectors][steps][9 taps][width · lanes · depth]; `tile` tiles of 2 × 2 pixels
    times `width` vectors of outputs are multiplied at once. `bias`, `room` and `finish` as in IntegerProduct.
    """

    source: Tensor
    weights: Tensor
    bias: Tensor
    out: Tensor
    room: int
    tile: int
    width: int
    dot: Dot
    finish: Finish | PlainSums
    family = "integer-winograd"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, self.weights, self.bias, *self.finish.tensors]
        return list({id(t): t for t in own}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        own = (self.room, self.tile, self.width, *self.dot.key)
        return ("integer-winograd", *own, self.finish.key(self.reads()), *tensors)

    @property
    def steps(self) -> int:
        """Pairs of channels."""
        return -(-self.source.shape[1] // self.dot.depth)

    @property
    def channels(self) -> int:
        """Those of a transformed tile: whole vectors of int16."""
        return -(-self.source.shape[1] // self.lump) * self.lump

    @property
    def lump(self) -> int:
        """Channels that are transformed at once, of which a pixel has a whole number."""
        return min(16, 2 * self.dot.lanes)

    @property
    def strips(self) -> int:
        """Groups of `width` vectors of outputs."""
        return -(-self.out.shape[1] // (self.width * self.dot.lanes))

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.out.shape[2] // 2), -(-self.out.shape[3] // 2)

    @property
    def rows(self) -> int:
        """Rows of tiles in a block."""
        most = _BLOCK_BYTES // (2 * _POINTS * self.channels * self.tiles[1])
        blocks = -(-self.tiles[0] // max(1, most))
        return -(-self.tiles[0] // blocks)

    @property
    def panel(self) -> int:
        """Transformed weights of one point."""
        return self.steps * self.width * self.dot.lanes * self.dot.depth

    @property
    def parts(self) -> tuple[int, int, int]:
        """Bytes of scratch before tiles, before sums, and of all."""
        v = -(-2 * _POINTS * self.panel // _ALIGNED) * _ALIGNED
        m = v + -(-2 * _POINTS * self.rows * self.tiles[1] * self.channels // _ALIGNED) * _ALIGNED
        return v, m, m + 4 * _POINTS * self.tile * self.width * self.dot.lanes

    def scratch_bytes(self, isa: Isa) -> int:
        return self.parts[2]

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        rows, blocks = self.rows, -(-self.tiles[0] // self.rows)
        v, m, _ = self.parts
        u = b.retyped(scratch, "int16")
        work = _Work(self, b, pointers, u, b.retyped(scratch, "int16", v), b.retyped(scratch, "int32", m))
        with b.each(self.out.shape[0]) as n, b.split_grid(blocks, self.strips) as (block, column, here):
            # the last block ends with the plane
            top = b.let(tir.min(block * rows, int32(self.tiles[0] - rows)), "top")
            work.turn_tiles(n, top)
            with b.loop(here, column) as strip:
                work.turn_weights(strip)
                work.multiply(n, top, strip)


@dataclass
class _Work:
    kernel: IntegerWinograd
    b: Builder
    pointers: dict[int, Pointer]
    u: Pointer
    v: Pointer
    m: Pointer

    def turn_tiles(self, n: Any, top: Any) -> None:
        """Bᵀ d B of every tile of the block."""
        k, b = self.kernel, self.b
        many, source = k.lump, self.pointers[id(k.source)]
        image, _, row, pixel = k.source.strides
        _, _, height, width = k.source.shape
        across, count = k.tiles[1], k.rows * k.tiles[1]
        with b.loop(k.rows) as y, b.loop(across) as x:
            rows = [b.let(n * image + tir.min((top + y) * 2 + i, int32(height - 1)) * row) for i in range(4)]
            columns = [b.let(tir.min(x * 2 + i, int32(width - 1)) * pixel) for i in range(4)]
            with b.each(k.channels // many) as part:
                c = b.let(part * many, "c")
                d = [
                    [b.hold(tir.Cast(f"int16x{many}", source.load(r + q + c, many))) for q in columns]
                    for r in rows
                ]
                turned = _both(b, d, _tile_transform)
                place = b.let((y * across + x) * k.channels + c, "to")
                for i, value in enumerate(turned):
                    b.store(self.v, place + i * (count * k.channels), value)

    def turn_weights(self, strip: Any) -> None:
        """2G g 2Gᵀ of a strip."""
        k, b = self.kernel, self.b
        many = k.dot.lanes * k.dot.depth
        source, each = self.pointers[id(k.weights)], k.width * many
        with b.loop(k.steps) as step, b.each(k.width) as j:
            at = b.let((strip * k.steps + step) * (9 * each) + j * many, "at")
            taps = [b.hold(k.dot.weights(source, at + i * each)) for i in range(9)]
            turned = _both(b, [taps[i : i + 3] for i in (0, 3, 6)], _weight_transform)
            for i, value in enumerate(turned):
                b.store(self.u, b.let(step * each + j * many) + i * k.panel, value)

    def multiply(self, n: Any, top: Any, strip: Any) -> None:
        """All tiles of the block times a strip."""
        k, b = self.kernel, self.b
        full, tail = divmod(k.rows * k.tiles[1], k.tile)
        with b.loop(full) as group:
            self._group(n, top, strip, b.let(group * k.tile, "t"), k.tile)
        if tail:
            self._group(n, top, strip, int32(full * k.tile), tail)

    def _group(self, n: Any, top: Any, strip: Any, t: Any, tiles: int) -> None:
        k, b = self.kernel, self.b
        dot, lanes, count = k.dot, k.dot.lanes, k.rows * k.tiles[1]
        each = k.width * lanes * dot.depth
        with b.loop(_POINTS) as point:
            sums = RegisterTile(b, tiles, k.width, lanes, "int32")
            sums.start(lambda r, j: constant(0, "int32", lanes))
            x, w = b.let((point * count + t) * k.channels, "x"), b.let(point * k.panel, "w")
            with b.loop(k.steps) as s:
                at, own = b.let(x + s * dot.depth), b.let(w + s * each)
                columns = [
                    b.let(dot.weights(self.u, own + j * (lanes * dot.depth)), "bv") for j in range(k.width)
                ]
                for r in range(tiles):
                    a = b.let(dot.broadcast(b, self.v, at + r * k.channels), "av")
                    for j, column in enumerate(columns):
                        sums.set(r, j, dot.accumulate(b, sums.get(r, j), a, column))
            place = b.let(point * (k.tile * k.width * lanes), "m")
            sums.finish(lambda r, j, value: b.store(self.m, place + (r * k.width + j) * lanes, value))
        for r in range(tiles):
            self._results(n, top, strip, b.let(t + r, "tile"), r)

    def _results(self, n: Any, top: Any, strip: Any, tile: Any, r: int) -> None:
        """Aᵀ m A / 4 of one tile: four pixels, those beyond the image left out."""
        k, b, lanes = self.kernel, self.b, self.kernel.dot.lanes
        row = b.let(tir.truncdiv(tile, int32(k.tiles[1])), "row")
        y, x = b.let((top + row) * 2, "y"), b.let((tile - row * k.tiles[1]) * 2, "x")
        place = b.let(strip * (k.width * lanes), "place")
        bias, results = self.pointers[id(k.bias)], []
        for j in range(k.width):
            at = (r * k.width + j) * lanes
            pitch = k.tile * k.width * lanes
            m = [[b.hold(self.m.load(at + (4 * i + q) * pitch, lanes)) for q in range(4)] for i in range(4)]
            start = b.hold(bias.load(place + j * lanes, lanes))
            quarter = constant(2, "int32", lanes)
            results.append([b.hold((value >> quarter) + start) for value in _both(b, m, _sum_transform)])
        height, width = k.out.shape[2:]
        for i in range(4):
            down, right = divmod(i, 2)
            inside: Any = None
            if height % 2 and down:
                inside = y + 1 < height
            if width % 2 and right:
                inside = x + 1 < width if inside is None else tir.And(inside, x + 1 < width)
            image, _, line, pixel = k.out.strides
            to = n * image + (y + down) * line + (x + right) * pixel + place
            if inside is None:
                self._store([own[i] for own in results], strip, Spot(place, place, b.let(to, "to")))
                continue
            with b.when(inside):
                self._store([own[i] for own in results], strip, Spot(place, place, b.let(to, "to")))

    def _store(self, sums: list[Any], strip: Any, spot: Spot) -> None:
        k, b = self.kernel, self.b
        each, last = k.width * k.dot.lanes, k.strips - 1
        keep = k.room - last * each
        if keep >= each:
            k.finish.store(b, self.pointers, sums, spot, k.out, each)
            return
        with b.when(tir.EQ(strip, int32(last))):
            k.finish.store(b, self.pointers, sums, spot, k.out, keep)
        if last:
            with b.when(tir.NE(strip, int32(last))):
                k.finish.store(b, self.pointers, sums, spot, k.out, each)


def _both(b: Builder, square: list[list[Any]], transform: Any) -> list[Any]:
    """The transform of the columns, then of the rows, row by row."""
    columns = [[b.hold(value) for value in transform(list(column))] for column in zip(*square, strict=True)]
    return [b.hold(value) for row in zip(*columns, strict=True) for value in transform(list(row))]


def _tile_transform(d: list[Any]) -> list[Any]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _weight_transform(g: list[Any]) -> list[Any]:
    """Twice the usual one."""
    return [g[0] + g[0], g[0] + g[1] + g[2], g[0] - g[1] + g[2], g[2] + g[2]]


def _sum_transform(m: list[Any]) -> list[Any]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
