"""3 × 3 convolution of stride 1 by Winograd's transforms: fewer multiplications than the sum has.

For a block of tiles, inputs are transformed once; then for each block of output channels the weights are
transformed (they are stored as they are: a transformed copy would be up to four times as large), every
element of the transformed tile is a small matrix product, and the products are transformed into pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .convolution import operand_vector
from .decoded_panels import StoredStrips, decode_panel
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .pixel_tile import PixelRun, PixelTile, pixel_runs
from .plane_reader import PlaneReader
from .planes import PlaneLayout
from .storing import store_first
from .tensor import Tensor
from .window import Window
from .winograd_transform import TRANSFORMS, Transform, twice

__all__ = ["Winograd", "tile_window"]


def tile_window(window: Window, outputs: int) -> Window:
    """The window that reads tiles of (m + 2) × (m + 2) inputs for m × m outputs."""
    height, width = (-(-n // outputs) for n in window.out_size)
    step = (outputs, outputs)
    return Window(window.in_size, (height, width), (outputs + 2, outputs + 2), step, (1, 1), window.pads)


@dataclass(eq=False)
class Winograd(Kernel):
    """`source`: padded planes (N · C, size); `weights`: (blocks, C, 9, rows); `out`: (N, M, OH, OW)."""

    source: Tensor
    weights: Tensor | None
    bias: Tensor | None
    out: Tensor
    window: Window
    channels: int  # C
    tile: tuple[int, int]  # rows, vectors of tiles
    epilogue: Lazy
    layout: PlaneLayout  # of tile_window(window, outputs)
    outputs: int  # m: a tile has m × m pixels
    block_tiles: int  # tiles whose transformed inputs are kept in cache together
    chunk: int  # channels whose transformed weights are
    stored: StoredStrips | None = None  # in place of `weights`, from which they are decoded
    family = "winograd"

    def reads(self) -> Sequence[Tensor]:
        weights = self.stored.tensors if self.stored else (self.weights,)
        own = [self.source, *weights] + ([self.bias] if self.bias else [])
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def depth(self) -> int:
        """Products that a direct sum takes for one output."""
        return self.channels * 9

    @property
    def transform(self) -> Transform:
        return TRANSFORMS[self.outputs]

    @property
    def tiles(self) -> int:
        """Tiles of one plane."""
        return self.layout.window.pixels

    def blocks(self) -> list[tuple[int, int, int]]:
        """Runs of blocks of tiles: (first tile, tiles in each, blocks)."""
        full, tail = divmod(self.tiles, self.block_tiles)
        runs = [(0, self.block_tiles, full), (full * self.block_tiles, tail, 1)]
        return [run for run in runs if run[1] and run[2]]

    def pitch(self, isa: Isa) -> int:
        """Elements between the tiles of one transformed element and those of the next."""
        return -(-self.block_tiles // isa.lanes) * isa.lanes

    def scratch_parts(self, isa: Isa) -> tuple[int, int, int, int, int]:
        """Elements of transformed inputs and weights, products, a vector of pixels, decoded weights."""
        products, pitch = self.transform.products, self.pitch(isa)
        return (
            products * self.channels * pitch,
            products * self.chunk * self.tile[0],
            products * self.tile[0] * pitch,
            self.outputs**2 * isa.lanes,
            self.stored.padded(self.chunk * 9) * self.tile[0] if self.stored else 0,
        )

    def scratch_bytes(self, isa: Isa) -> int:
        return 4 * sum(self.scratch_parts(isa))

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        sizes = (self.channels, self.tile, self.block_tiles, self.chunk)
        own = ("winograd", self.outputs, self.window, self.layout, sizes, self.stored and self.stored.key)
        return (*own, self.bias is not None, self.epilogue.key, shared, *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        row_blocks = -(-self.out.shape[1] // self.tile[0])
        with b.loop(self.out.shape[0]) as n:
            work = _Work(self, b, pointers, scratch, n)
            for first, tiles, count in self.blocks():
                with b.split_grid(count, row_blocks) as (i, start, share):
                    work.block(b.let(i * tiles + first, "tile"), tiles, start, share)


@dataclass
class _Work:
    """The code for one block of tiles of one image."""

    kernel: Winograd
    b: Builder
    pointers: dict[int, Pointer]
    scratch: Pointer
    n: Any

    def __post_init__(self) -> None:
        isa = self.b.isa
        sizes = self.kernel.scratch_parts(isa)
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self.inputs, self.weights, self.products, self.pixels, self.taps = starts
        self.pitch, self.lanes = self.kernel.pitch(isa), isa.lanes

    def block(self, first: Any, tiles: int, start: Any, share: Any) -> None:
        """`share` blocks of output channels from block `start`, for the tiles from `first`."""
        k, b, rows = self.kernel, self.b, self.kernel.tile[0]
        vectors = -(-tiles // self.lanes)
        runs = pixel_runs(b.isa, rows, tiles, k.tile[1])
        self._transform_inputs(first, vectors)
        with b.loop(share, start) as block:
            with b.loop(-(-k.channels // k.chunk)) as part:
                c0 = b.let(part * k.chunk)
                count = b.let(tir.min(int32(k.chunk), k.channels - c0))
                self._transform_weights(block, c0, count)
                for run in runs:
                    with b.loop(k.transform.products) as e, b.loop(run.count) as t:
                        self._multiply(run, e, b.let(t * (run.vectors * self.lanes) + run.first), c0, count)
            row = b.let(block * rows, "m")
            with b.loop(b.let(tir.min(int32(rows), k.out.shape[1] - row))) as r, b.loop(vectors) as v:
                self._pixels_of_tiles(r, v)
                place = b.let(v * self.lanes)
                self._store(b.let(row + r), b.let(first + place), b.let(tiles - place))

    def _transform_inputs(self, first: Any, vectors: int) -> None:
        """inputs[element, c, tile]."""
        k, b = self.kernel, self.b
        source, size = self.pointers[id(k.source)], k.transform.inputs
        plane = k.source.strides[0]
        image = b.let(self.n * (plane * k.channels))
        with b.loop(vectors) as v:
            reader = PlaneReader(b, k.layout, b.let(first + v * self.lanes))
            with b.loop(k.channels) as c:
                at = b.let(image + c * plane)
                rows = [
                    [b.hold(reader.read(source, at + k.layout.tap(y, x))) for x in range(size)]
                    for y in range(size)
                ]
                to = b.let(c * self.pitch + v * self.lanes + self.inputs)
                for i, row in enumerate(twice(b, k.transform.input, rows)):
                    for j, value in enumerate(row):
                        b.store(self.scratch, to + (i * size + j) * (k.channels * self.pitch), value)

    def _transform_weights(self, block: Any, c0: Any, count: Any) -> None:
        """weights[element, c, row] of `count` channels from c0."""
        k, b, rows = self.kernel, self.b, self.kernel.tile[0]
        size, lanes = k.transform.inputs, min(self.lanes, rows)
        source, start = self._taps(block, c0, count)
        with b.loop(count) as c, b.loop(rows // lanes) as piece:
            at = b.let(start + c * (9 * rows) + piece * lanes)
            taps = [[b.hold(source.load(at + (y * 3 + x) * rows, lanes)) for x in range(3)] for y in range(3)]
            to = b.let(c * rows + piece * lanes + self.weights)
            for i, row in enumerate(twice(b, k.transform.weight, taps)):
                for j, value in enumerate(row):
                    b.store(self.scratch, to + (i * size + j) * (k.chunk * rows), value)

    def _taps(self, block: Any, c0: Any, count: Any) -> tuple[Pointer, Any]:
        """Where the weights (channels, 9, rows) of `count` channels from c0 lie, decoded if need be."""
        k, b, rows = self.kernel, self.b, self.kernel.tile[0]
        if k.stored is None:
            return self.pointers[id(k.weights)], b.let((block * k.channels + c0) * (9 * rows))
        strips, some = rows // k.stored.width, (b.let(c0 * 9), b.let(count * 9))
        strip = b.let(block * strips)
        decode_panel(b, self.pointers, k.stored, k.channels * 9, strip, strips, self.scratch, self.taps, some)
        return self.scratch, int32(self.taps)

    def _multiply(self, run: PixelRun, element: Any, place: Any, c0: Any, count: Any) -> None:
        """products[element, row, tile] += weights · inputs over `count` channels from c0."""
        k, b, rows = self.kernel, self.b, self.kernel.tile[0]
        to = b.let(element * (rows * self.pitch) + place + self.products)
        tile = PixelTile(b, rows, run.vectors, run.left)
        tile.start(None, int32(0), rows)
        if k.chunk < k.channels:
            with b.when(c0 > 0):
                tile.resume(lambda r, j, lanes: self.scratch.load(to + r * self.pitch + j, lanes))
        w0 = b.let(element * (k.chunk * rows) + self.weights)
        x0 = b.let((element * k.channels + c0) * self.pitch + place + self.inputs)
        with b.loop(count) as c:
            tile.accumulate(self.scratch, b.let(w0 + c * rows), self.scratch, b.let(x0 + c * self.pitch))

        def write(r: Any, j: int, value: Any) -> None:
            b.store(self.scratch, to + r * self.pitch + j * self.lanes, value)

        tile.finish(rows, write)

    def _pixels_of_tiles(self, r: Any, v: Any) -> None:
        """pixels[y, tile, x] of one output channel and one vector of tiles."""
        k, b, rows = self.kernel, self.b, self.kernel.tile[0]
        size, m, lanes = k.transform.inputs, k.outputs, self.lanes
        at = b.let(r * self.pitch + v * lanes + self.products)
        step = rows * self.pitch
        elements = [
            [b.hold(self.scratch.load(at + (i * size + j) * step, lanes)) for j in range(size)]
            for i in range(size)
        ]
        for y, row in enumerate(twice(b, k.transform.output, elements)):
            for part in range(m):
                places = [divmod(part * lanes + i, m) for i in range(lanes)]  # (tile, x)
                order = [int32(x * lanes + tile) for tile, x in places]
                b.store(self.scratch, self.pixels + (y * m + part) * lanes, tir.Shuffle(row, order))

    def _store(self, channel: Any, first: Any, count: Any) -> None:
        """One vector of tiles of an output channel, a few pixels of a row at a time."""
        k, b, m = self.kernel, self.b, self.kernel.outputs
        height, width = k.window.out_size
        across = k.layout.window.out_size[1]
        bias = b.let(self.pointers[id(k.bias)].load(channel)) if k.bias else constant(0.0, "float32")
        with b.loop(b.let(tir.min(int32(self.lanes), count))) as t:
            tile = b.let(first + t)
            down = b.let(tir.truncdiv(tile, int32(across)))
            over = b.let(tile - down * across)
            for y in range(m):
                line = down * m + y
                with b.when(line < height):
                    value = b.hold(self.scratch.load(t * m + (self.pixels + y * m * self.lanes), m))
                    value = b.hold(value + tir.Broadcast(bias, m))
                    self._store_pixels(channel, b.let(line * width + over * m), value, over, across)

    def _store_pixels(self, channel: Any, place: Any, value: Any, over: Any, across: int) -> None:
        k, b, m = self.kernel, self.b, self.kernel.outputs
        scope, out = Scope(b, self.pointers), self.pointers[id(k.out)]

        def operand(leaf: Leaf) -> Any:
            return operand_vector(scope, leaf, k.out, self.n, channel, place, m)

        result = b.hold(evaluate(k.epilogue, scope, value, operand))
        offset = b.let(self.n * k.out.strides[0] + channel * k.out.strides[1] + place)
        ragged = k.window.out_size[1] % m
        if not ragged:
            b.store(out, offset, result)
            return
        with b.when(over < across - 1):
            b.store(out, offset, result)
        with b.when(tir.EQ(over, int32(across - 1))):
            store_first(b, out, offset, result, m, ragged)
