"""Convolution as matrix product: packed weights × pixels, dense or block-sparse.

Pixels are taken in tiles of a few vectors. A 1×1 convolution reads its tile in place; other windows first
copy theirs into a panel (taps × pixels) that stays in the cache while all output channels use it. `out` has
planes padded to whole vectors, so that tiles need no tail.

    out[m, p] = epilogue(bias[m] + Σ_k weights[m, k] · panel[k, p])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, int32
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .pixel_panel import PixelPanel
from .pixel_tile import PixelRun, PixelTile, pixel_runs
from .planes import PlaneLayout
from .tensor import Tensor
from .window import Window

__all__ = ["Convolution", "ConvolutionWork", "operand_vector"]

_LINE = 64  # bytes of a cache line


@dataclass(eq=False)
class Convolution(Kernel):
    """`source`: (N, C, H, W), or padded planes when `layout` is given; `out`: (N, M, OH, OW)."""

    source: Tensor
    weights: tuple[Tensor, ...]  # dense: panels; sparse: values, offsets, starts
    bias: Tensor | None
    out: Tensor
    window: Window
    groups: int
    channels: int  # C
    tile: tuple[int, int]
    epilogue: Lazy
    layout: PlaneLayout | None = None
    block_rows: int = 0  # R of R×1 blocks, 0 when dense

    @property
    def family(self) -> str:  # type: ignore[override]
        return "sparse-convolution" if self.block_rows else "convolution"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, *self.weights] + ([self.bias] if self.bias else [])
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def depth(self) -> int:
        """K: products summed for one output."""
        return self.channels // self.groups * self.window.taps

    @property
    def rows(self) -> int:
        """Output channels of one group."""
        return self.out.shape[1] // self.groups

    def uses_panel(self, isa: Isa) -> bool:
        """Whether a tile's pixels are copied: for other windows than 1×1, and where reading a narrow tile in
        place would touch more cache lines than stay near."""
        narrow = self.tile[1] * isa.lanes * 4 < _LINE and not self.block_rows
        return self.layout is not None or (
            narrow and self.depth * _LINE > isa.target.l1_bytes and self.rows >= 64
        )

    def column_stride(self, isa: Isa) -> int:
        """Elements between the pixels of input k and those of input k + 1."""
        return self.panel_row(isa) if self.uses_panel(isa) else self.source.strides[1]

    def panel_row(self, isa: Isa) -> int:
        """Elements between two rows of the panel."""
        return max(run.vectors + bool(run.left) for run in self.runs(isa)) * isa.lanes

    def panel_floats(self, isa: Isa) -> int:
        """Elements of the panel of pixels."""
        return self.depth * self.panel_row(isa) if self.uses_panel(isa) else 0

    def scratch_bytes(self, isa: Isa) -> int:
        return 4 * self.panel_floats(isa)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        return (
            *("convolution", self.window, self.groups, self.channels, self.tile, self.layout),
            *(self.block_rows, self.bias is not None, self.epilogue.key, shared, *tensors),
        )

    # ---- code -------------------------------------------------------------------------------
    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        blocks = -(-self.rows // (self.block_rows or self.tile[0]))
        with b.each(self.out.shape[0]) as n, b.each(self.groups) as g:
            self.work(b, pointers, scratch, n, g).tiles(self.runs(b.isa), blocks)

    def work(
        self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None, n: Any, g: Any
    ) -> ConvolutionWork:
        """The code for one image and group."""
        return ConvolutionWork(self, b, pointers, scratch, n, g)

    def runs(self, isa: Isa) -> list[PixelRun]:
        """The tiles of one plane."""
        return pixel_runs(isa, self.tile[0], self.window.pixels, self.tile[1])

    def row_tiles(self, b: Builder, rows: int, first: Any, count: Any) -> Iterator[tuple[Any, int]]:
        """`count` blocks of output channels from block `first`: (index of the block, rows in it)."""
        full, tail = divmod(self.rows, rows)
        if full:
            last = b.let(tir.min(first + count, int32(full)))
            with b.loop(b.let(last - first), first) as block:
                yield block, rows
        if tail:
            with b.when(first + count > full):
                yield int32(full), tail


@dataclass
class ConvolutionWork:
    """One convolution's code for one image and group."""

    kernel: Convolution
    b: Builder
    pointers: dict[int, Pointer]
    scratch: Pointer | None
    n: Any
    g: Any

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def tiles(self, runs: list[PixelRun], blocks: int) -> None:
        """All tiles of pixels, for `blocks` blocks of output channels."""
        for run in runs:
            with self.b.split_grid(run.count, blocks) as (t, first, count):
                self.pixel_tile(self.first_pixel(run, t), run, first, count)

    def first_pixel(self, run: PixelRun, t: Any) -> Any:
        """Of tile `t` of a run."""
        return self.b.let(t * (run.vectors * self.b.isa.lanes) + run.first, "p")

    def pixel_tile(self, pixel: Any, run: PixelRun, first: Any, count: Any) -> None:
        """`count` blocks of output channels from block `first`, for the pixels from `pixel`."""
        k, b = self.kernel, self.b
        if k.uses_panel(b.isa):
            self._pack(pixel, run.vectors + bool(run.left))
        rows = k.block_rows or k.tile[0]
        bias = self.pointer(k.bias) if k.bias else None
        for block, height in k.row_tiles(b, rows, first, count):
            tile = PixelTile(b, k.block_rows or height, run.vectors, run.left)
            first_row = b.let(self.g * k.rows + block * rows, "m")
            tile.start(bias, first_row, height)
            self.sum(tile, block, height, pixel)
            self._store(tile, first_row, height, pixel)

    def _pack(self, pixel: Any, width: int) -> None:
        """The tile's pixels of every tap: panel[(c, ky, kx), p]."""
        k = self.kernel
        assert self.scratch is not None
        panel = PixelPanel(self.b, k.window.taps, k.window.kernel[1], k.layout, k.panel_row(self.b.isa))
        strides, per_group = k.source.strides, k.channels // k.groups
        plane = strides[1] if k.layout is None else strides[0]
        image = self.n * (strides[0] if k.layout is None else plane * k.channels)
        start = self.b.let(image + self.g * (per_group * plane))
        panel.pack(self.pointer(k.source), start, plane, per_group, pixel, width, self.scratch)

    def sum(self, tile: PixelTile, block: Any, height: int, pixel: Any) -> None:
        """Adds the products of a block of `height` output channels and the tile's pixels."""
        k, b = self.kernel, self.b
        if k.block_rows:
            self._sparse_sum(tile, block, pixel)
            return
        base = b.let(self.g * (k.rows * k.depth) + block * (k.tile[0] * k.depth), "w")
        self.dense_sum(tile, self.pointer(k.weights[0]), base, height, pixel, 0, k.depth)

    def columns(self, pixel: Any) -> tuple[Pointer, Any, int]:
        """Where the tile's pixels lie: pointer, offset of row k = 0, distance between rows."""
        k = self.kernel
        if k.uses_panel(self.b.isa):
            assert self.scratch is not None
            return self.scratch, int32(0), k.column_stride(self.b.isa)
        strides = k.source.strides
        group = self.g * (k.channels // k.groups * strides[1])
        start = self.b.let(self.n * strides[0] + group + pixel)
        return self.pointer(k.source), start, k.column_stride(self.b.isa)

    def dense_sum(
        self, tile: PixelTile, weights: Pointer, base: Any, pitch: int, pixel: Any, first: Any, inputs: int
    ) -> None:
        """`inputs` from the `first`, whose weights lie at `base`, `pitch` apart."""
        b = self.b
        source, start, row = self.columns(pixel)
        start = b.let(start + first * row)
        unroll = min(b.isa.target.unroll, inputs)
        tail = inputs % unroll
        for begin, steps, turns in ((0, unroll, inputs // unroll), (inputs - tail, tail, min(tail, 1))):
            with b.loop(turns) as i:
                at = b.let(start + (i * steps + begin) * row)
                w = b.let(base + (i * steps + begin) * pitch)
                for u in range(steps):
                    tile.accumulate(weights, w + u * pitch, source, at + u * row)

    def _sparse_sum(self, tile: PixelTile, block: Any, pixel: Any) -> None:
        k, b = self.kernel, self.b
        source, start, _ = self.columns(pixel)
        values, offsets, starts = (self.pointer(t) for t in k.weights)
        blocks = -(-k.rows // k.block_rows)
        at_block = b.let(self.g * blocks + block)
        begin = b.let(starts.load(at_block))
        count = b.let(starts.load(at_block + 1) - begin)
        with b.loop(count, begin) as i:
            at, w = b.let(start + offsets.load(i)), b.let(i * k.block_rows)
            tile.accumulate(values, w, source, at)

    def _store(self, tile: PixelTile, first_row: Any, height: int, pixel: Any) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        scope, strides = Scope(b, self.pointers), k.out.strides
        out = self.pointer(k.out)

        def write(r: Any, j: int, value: Any) -> None:
            channel, place = first_row + r, pixel + j * lanes

            def operand(leaf: Leaf) -> Any:
                return operand_vector(scope, leaf, k.out, self.n, channel, place, lanes)

            result = evaluate(k.epilogue, scope, value, operand)
            b.store(out, self.n * strides[0] + channel * strides[1] + place, result)

        tile.finish(height, write)


def operand_vector(
    scope: Scope, leaf: Leaf, out: Tensor, n: Any, channel: Any, place: Any, lanes: int
) -> Any:
    """An epilogue operand for one vector of pixels: per tensor, per channel, or per element."""
    tensor = leaf.tensor
    if tensor.size == 1:
        return tir.Broadcast(scope.load(tensor, int32(0)), lanes)
    if tensor.shape == out.shape:
        offset = n * tensor.strides[0] + channel * tensor.strides[1] + place
        return scope.load(tensor, offset, lanes)
    axis = len(tensor.shape) - 3
    offset = channel * tensor.strides[axis]
    if axis > 0 and tensor.shape[0] > 1:
        offset = offset + n * tensor.strides[0]
    return tir.Broadcast(scope.load(tensor, offset), lanes)
