"""Convolution as matrix product: packed weights × pixels, dense or block-sparse.

Pixels are taken in tiles of a few vectors. A 1×1 convolution reads its tile in place; other windows first
copy theirs into a panel (taps × pixels) that stays in the cache while all output channels use it. `out` has
planes padded to whole vectors, so that tiles need no tail.

    out[m, p] = epilogue(bias[m] + Σ_k weights[m, k] · panel[k, p])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .planes import PlaneLayout
from .register_tile import RegisterTile
from .tensor import Tensor
from .window import Window

__all__ = ["Convolution", "operand_vector", "tile_runs"]


def tile_runs(vectors: int, most: int) -> list[tuple[int, int, int]]:
    """Cuts `vectors` into even tiles of at most `most`: runs of (first vector, tile width, tiles).

    >>> tile_runs(13, 4)
    [(0, 4, 1), (4, 3, 3)]
    """
    tiles = -(-vectors // most)
    width, big = divmod(vectors, tiles)
    runs = [(0, width + 1, big), (big * (width + 1), width, tiles - big)]
    return [run for run in runs if run[2]]


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
    pack: bool = False  # copies even a 1×1 tile into a panel
    _by_pixels: bool = False

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

    @property
    def uses_panel(self) -> bool:
        return self.layout is not None or self.pack

    def scratch_bytes(self, isa: Isa) -> int:
        return self.depth * self.tile[1] * isa.lanes * 4 if self.uses_panel else 0

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        return (
            *("convolution", self.window, self.groups, self.channels, self.tile, self.layout, self.pack),
            *(self.block_rows, self.bias is not None, self.epilogue.key, shared, *tensors),
        )

    # ---- code -------------------------------------------------------------------------------
    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        lanes = b.isa.lanes
        runs = tile_runs(-(-self.window.pixels // lanes), self.tile[1])
        self._by_pixels = sum(count for _, _, count in runs) >= 4
        batch = self.out.shape[0]
        with _maybe_loop(b, batch) as n, _maybe_loop(b, self.groups) as g:
            work = _Work(self, b, pointers, scratch, n, g)
            for first, width, count in runs:
                loop = b.split(count) if self._by_pixels else b.loop(count)
                with loop as t:
                    work.pixel_tile(b.let((t * width + first) * lanes, "p"), width)

    def row_tiles(self, b: Builder, rows: int) -> Iterator[tuple[Any, int]]:
        """Blocks of output channels: (index of the block, rows in it)."""
        full, tail = divmod(self.rows, rows)
        if full:
            loop = b.loop(full) if self._by_pixels else b.split(full)
            with loop as block:
                yield block, rows
        if tail:
            with _only_first_thread(b, not self._by_pixels):
                yield int32(full), tail


@contextmanager
def _maybe_loop(b: Builder, extent: int) -> Iterator[Any]:
    if extent == 1:
        yield int32(0)
    else:
        with b.loop(extent) as i:
            yield i


@contextmanager
def _only_first_thread(b: Builder, needed: bool) -> Iterator[None]:
    if not needed:
        yield
    else:
        with b.when(b.thread == 0):
            yield


@dataclass
class _Work:
    """One convolution's code for one image and group."""

    kernel: Convolution
    b: Builder
    pointers: dict[int, Pointer]
    scratch: Pointer | None
    n: Any
    g: Any

    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def pixel_tile(self, pixel: Any, width: int) -> None:
        """All output channels of the pixels from `pixel`, `width` vectors of them."""
        k, b = self.kernel, self.b
        if k.uses_panel:
            self._pack(pixel, width)
        rows = k.block_rows or k.tile[0]
        for block, height in k.row_tiles(b, rows):
            tile = RegisterTile(b, k.block_rows or height, width, b.isa.lanes)
            first_row = b.let(self.g * k.rows + block * rows, "m")
            tile.start(self._bias(first_row, height))
            if k.block_rows:
                self._sparse_sum(tile, block, pixel, width)
            else:
                self._dense_sum(tile, block, height, pixel, width)
            self._store(tile, first_row, height, pixel)

    def _bias(self, first_row: Any, height: int) -> Callable[[int, int], Any] | None:
        if self.kernel.bias is None:
            return None
        pointer, lanes = self.pointer(self.kernel.bias), self.b.isa.lanes
        rows = [self.b.let(pointer.load(first_row + r)) for r in range(height)]
        values = [tir.Broadcast(v, lanes) for v in rows]
        zero = constant(0.0, "float32", lanes)
        return lambda r, j: values[r] if r < height else zero

    def _columns(self, pixel: Any, width: int) -> tuple[Pointer, Any, int]:
        """Where the tile's vectors lie: pointer, offset of row k = 0, distance between rows."""
        k = self.kernel
        if k.uses_panel:
            assert self.scratch is not None
            return self.scratch, int32(0), width * self.b.isa.lanes
        strides = k.source.strides
        group = self.g * (k.channels // k.groups * strides[1])
        return self.pointer(k.source), self.b.let(self.n * strides[0] + group + pixel), strides[1]

    def _dense_sum(self, tile: RegisterTile, block: Any, height: int, pixel: Any, width: int) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        source, start, row = self._columns(pixel, width)
        weights = self.pointer(k.weights[0])
        base = b.let(self.g * (k.rows * k.depth) + block * (k.tile[0] * k.depth), "w")
        with b.loop(k.depth) as i:
            at, w = b.let(start + i * row), b.let(base + i * height)
            tile.accumulate(lambda r: weights.load(w + r), lambda j: source.load(at + j * lanes, lanes))

    def _sparse_sum(self, tile: RegisterTile, block: Any, pixel: Any, width: int) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        source, start, row = self._columns(pixel, width)
        values, offsets, starts = (self.pointer(t) for t in k.weights)
        blocks = -(-k.rows // k.block_rows)
        at_block = b.let(self.g * blocks + block)
        begin = b.let(starts.load(at_block))
        count = b.let(starts.load(at_block + 1) - begin)
        with b.loop(count, begin) as i:
            at, w = b.let(start + offsets.load(i) * row), b.let(i * k.block_rows)
            tile.accumulate(lambda r: values.load(w + r), lambda j: source.load(at + j * lanes, lanes))

    def _store(self, tile: RegisterTile, first_row: Any, height: int, pixel: Any) -> None:
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        scope, strides = Scope(b, self.pointers), k.out.strides
        out = self.pointer(k.out)

        def write(r: int, j: int, value: Any) -> None:
            if r >= height:
                return
            channel, place = first_row + r, pixel + j * lanes

            def operand(leaf: Leaf) -> Any:
                return operand_vector(scope, leaf, k.out, self.n, channel, place, lanes)

            result = evaluate(k.epilogue, scope, value, operand)
            b.store(out, self.n * strides[0] + channel * strides[1] + place, result)

        tile.finish(write)

    # ---- panel ------------------------------------------------------------------------------
    def _pack(self, pixel: Any, width: int) -> None:
        """Copies the tile's pixels of every tap: panel[(c, ky, kx), p]."""
        k, b = self.kernel, self.b
        assert self.scratch is not None
        per_group = k.channels // k.groups
        plane = k.source.strides[1] if k.layout is None else k.source.strides[0]
        image = self.n * (k.source.strides[0] if k.layout is None else plane * k.channels)
        start = b.let(image + self.g * (per_group * plane))
        readers = [self._reader(pixel, j) for j in range(width)]
        lanes, taps = b.isa.lanes, k.window.taps
        source = self.pointer(k.source)
        with b.loop(per_group) as c:
            from_plane = b.let(start + c * plane)
            for tap in range(taps):
                shift = k.layout.tap(*divmod(tap, k.window.kernel[1])) if k.layout else 0
                row = (c * taps + tap) * (width * lanes)
                for j, read in enumerate(readers):
                    b.store(self.scratch, row + j * lanes, read(source, from_plane + shift))

    def _reader(self, pixel: Any, j: int) -> Callable[[Pointer, Any], Any]:
        """Reads one vector of output pixels, which may cross rows of the plane, for any tap."""
        k, b, lanes = self.kernel, self.b, self.b.isa.lanes
        first = b.let(pixel + j * lanes)
        if k.layout is None:
            return lambda source, plane: source.load(plane + first, lanes)
        width = k.window.out_size[1]
        x = b.let(tir.truncmod(first, int32(width)))
        base = b.let(tir.truncdiv(first, int32(width)) * k.layout.pixel_row + x)
        crossings = 0 if width % lanes == 0 else -(-(lanes - 1) // width)
        ramp = tir.Ramp(int32(0), int32(1), lanes)
        step = k.layout.pixel_row - width
        # not named by `let`: TVM's simplifier refuses to bind vectors of booleans; LLVM hoists them
        masks = [tir.GE(ramp + x, constant(i * width, "int32", lanes)) for i in range(1, crossings + 1)]

        def read(source: Pointer, plane: Any) -> Any:
            value = source.load(plane + base, lanes)
            for i, mask in enumerate(masks, 1):
                value = tir.Select(mask, source.load(plane + (base + i * step), lanes), value)
            return value

        return read


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
