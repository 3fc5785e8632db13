"""Convolution of images of any size: packed weights × pixels, which are read where they lie.

    out[m, p] = epilogue(bias[m] + Σ_c Σ_k weights[m, c, k] · planes[c, p + distance of k])

Pixels are counted through the rows of the planes, margins included: what lies between the end of one row and
the start of the next is computed too and never read. Rows of the result lie as far apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from gossamer.runtime.errors import UnsupportedError

from ..dims import Size, may_turn
from .builder import STACK_BYTES, Builder, Pointer, int32
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .pixel_tile import PixelTile
from .tensor import Tensor

__all__ = ["AnyConvolution", "pixel_span"]

_UNROLLED = 16  # elements of a window whose products are written out


def pixel_span(out_size: Sequence[Size], pitches: Sequence[Size]) -> Size:
    """Places from the first pixel to the last, both included."""
    total: Size = 1
    for n, pitch in zip(out_size, pitches, strict=True):
        total = total + (n - 1) * pitch
    return total


@dataclass(eq=False)
class AnyConvolution(Kernel):
    """`planes`: (N, C, …) by `strides` of image and plane; `weights`: panels of `tile[0]` rows;

    `out`: (N, M, …), planes of whole vectors, pixels as far apart as in `planes`.
    """

    planes: Tensor
    strides: tuple[Size, Size]
    weights: Tensor
    bias: Tensor | None
    out: Tensor
    distances: tuple[Size, ...]
    groups: int
    channels: int
    tile: tuple[int, int]
    epilogue: Lazy
    family = "any-convolution"

    def __post_init__(self) -> None:
        self.tile_name = f"{self.tile[0]}x{self.tile[1]}v"

    def reads(self) -> Sequence[Tensor]:
        own = [self.planes, self.weights] + ([self.bias] if self.bias else [])
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        own = ("any-convolution", self.strides, self.distances, self.groups, self.channels, self.tile)
        return (*own, self.bias is not None, self.epilogue.key, shared, *tensors)

    @property
    def rows(self) -> int:
        """Output channels of one group."""
        return self.out.shape[1] // self.groups

    def runs(self, isa: Isa) -> list[tuple[Size, int, Size]]:
        """(first vector, vectors of a tile, tiles) that cover a plane."""
        vectors = pixel_span(self.out.shape[2:], self.out.strides[2:]) + (isa.lanes - 1)
        wide, single = divmod(vectors // isa.lanes, self.tile[1])
        found = [(0, self.tile[1], wide), (wide * self.tile[1], 1, single)]
        return [run for run in found if may_turn(run[2])]

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        blocks = -(-self.rows // self.tile[0])
        with b.each(self.out.shape[0]) as n, b.each(self.groups) as g:
            work = _Work(self, b, pointers, n, g)
            for first, width, count in self.runs(b.isa):
                with b.split_grid(count, blocks) as (t, start, share):
                    pixel = b.let((t * width + int32(first)) * b.isa.lanes, "p")
                    work.pixel_tile(pixel, width, start, share)


def _in_rows(known: Sequence[Size], k: Any) -> Any:
    """Distance k of a window of even rows, by its row and column."""
    count = len(known)
    for width in (w for w in range(1, count + 1) if count % w == 0):
        right = known[1] - known[0] if width > 1 else 0
        down = known[width] - known[0] if width < count else 0
        if all(d == known[0] + i // width * down + i % width * right for i, d in enumerate(known)):
            row, column = tir.truncdiv(k, int32(width)), tir.truncmod(k, int32(width))
            return row * int32(down) + column * int32(right) + int32(known[0])
    raise UnsupportedError("the window has too many elements", expected="even rows of elements", got=count)


@dataclass
class _Work:
    """The code for one image and group."""

    kernel: AnyConvolution
    b: Builder
    pointers: dict[int, Pointer]
    n: Any
    g: Any

    def pixel_tile(self, pixel: Any, width: int, first: Any, count: Any) -> None:
        """`count` blocks of output channels from block `first`, for `width` vectors of pixels."""
        k, b = self.kernel, self.b
        bias = self.pointers[id(k.bias)] if k.bias else None
        image, plane = k.strides
        start = b.let(self.n * image + self.g * (k.channels // k.groups) * plane + pixel)
        distances = self._distances()
        for block, height in self._blocks(first, count):
            tile = PixelTile(b, height, width, 0)
            row = b.let(self.g * k.rows + block * k.tile[0], "m")
            tile.start(bias, row, height)
            self._sum(tile, block, height, start, distances)
            self._store(tile, row, height, pixel)

    def _blocks(self, first: Any, count: Any) -> Iterator[tuple[Any, int]]:
        """(block, rows in it) of `count` blocks from the `first`."""
        b = self.b
        full, tail = divmod(self.kernel.rows, self.kernel.tile[0])
        if full:
            last = b.let(tir.min(first + count, int32(full)))
            with b.loop(b.let(last - first), first) as block:
                yield block, self.kernel.tile[0]
        if tail:
            with b.when(first + count > full):
                yield int32(full), tail

    def _distances(self) -> Callable[[Any], Any]:
        """Of element k of the window: k is a number where products are written out, else an index."""
        b, known = self.b, self.kernel.distances
        if len(known) <= _UNROLLED:
            values = [b.let(int32(d)) for d in known]
            return lambda k: values[k]
        if 4 * len(known) > STACK_BYTES:
            return lambda k: _in_rows(known, k)
        table = b.stack("int32", len(known))
        for i, distance in enumerate(known):
            b.store(table, i, int32(distance))
        return table.load

    def _sum(self, tile: PixelTile, block: Any, height: int, start: Any, distances: Any) -> None:
        k, b = self.kernel, self.b
        taps, per_group = len(k.distances), k.channels // k.groups
        depth = per_group * taps
        source, weights = self.pointers[id(k.planes)], self.pointers[id(k.weights)]
        base = b.let(self.g * (k.rows * depth) + block * (k.tile[0] * depth), "w")
        with b.loop(per_group) as c:
            at = b.let(start + c * k.strides[1])
            w = b.let(base + c * (taps * height))
            if taps <= _UNROLLED:
                for i in range(taps):
                    tile.accumulate(weights, w + i * height, source, b.let(at + distances(i)))
                return
            with b.loop(taps) as i:
                tile.accumulate(weights, b.let(w + i * height), source, b.let(at + distances(i)))

    def _store(self, tile: PixelTile, row: Any, height: int, pixel: Any) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        scope, out = Scope(b, self.pointers), self.pointers[id(k.out)]

        def write(r: Any, j: int, value: Any) -> None:
            channel, place = row + r, pixel + j * lanes

            def operand(leaf: Leaf) -> Any:
                return self._operand(scope, leaf.tensor, channel, place)

            result = evaluate(k.epilogue, scope, value, operand)
            b.store(out, self.n * k.out.strides[0] + channel * k.out.strides[1] + place, result)

        tile.finish(height, write)

    def _operand(self, scope: Scope, tensor: Tensor, channel: Any, place: Any) -> Any:
        """An epilogue operand for one vector of pixels: per element, per channel, or one for all."""
        out, lanes = self.kernel.out, self.b.isa.lanes
        if tensor.shape == out.shape and tensor.size != 1:
            offset = self.n * tensor.strides[0] + channel * tensor.strides[1] + place
            return scope.load(tensor, offset, lanes)
        axis = len(tensor.shape) - len(out.shape) + 1
        offset = int32(0) if tensor.size == 1 else channel * tensor.strides[axis]
        return tir.Broadcast(scope.load(tensor, offset), lanes)
