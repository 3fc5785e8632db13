"""Products of int8 activations with block-sparse int8 weights: blocks of zeros are neither stored nor read.

Here lanes are pixels. A block holds R outputs × 4 inputs; an input's word (the `depth` activations that one
instruction sums) of a vector of pixels is multiplied by R words of weights, each repeated for all lanes.

    panel[s][p]  words of a tile of pixels, turned from pixel-major in registers, once for all outputs
    stage[m][p]  int32 sums of a vector of outputs, turned back, so that the epilogue sees outputs in lanes
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
from .register_tile import RegisterTile, scalars, tile_runs
from .tensor import Tensor
from .transposing import turned

__all__ = ["BLOCK_INPUTS", "SparseIntegerProduct", "most_vectors"]

BLOCK_INPUTS = 4
_MOST_VECTORS = 5


def most_vectors(isa: Isa, rows: int) -> int:
    """Vectors of pixels of a tile of `rows` outputs."""
    return min(_MOST_VECTORS, (isa.registers - rows - 2) // rows)


@dataclass(eq=False)
class SparseIntegerProduct(Kernel):
    """`pixels` of `inputs` activations that lie `pitch` apart, times weights in blocks of `rows` outputs.

    `words` (blocks, steps of a block, rows) int32 are the weights of stored blocks, `columns` (blocks,) the
    first step of each, `starts` (groups of rows + 1,) the first block of each group. `bias`, `out`, `room`
    and `finish` are those of IntegerProduct; `out_pitch` lies between pixels of `out`.
    """

    source: Tensor
    words: Tensor
    columns: Tensor
    starts: Tensor
    bias: Tensor
    out: Tensor
    pixels: int
    inputs: int
    pitch: int
    out_pitch: int
    outputs: int
    room: int
    rows: int
    dot: Dot
    finish: Finish | PlainSums
    family = "sparse-integer-gemm"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, self.words, self.columns, self.starts, self.bias, *self.finish.tensors]
        return list({id(t): t for t in own}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        own = (self.pixels, self.inputs, self.pitch, self.out_pitch, self.outputs, self.room, self.rows)
        return ("sparse-integer", *own, *self.dot.key, self.finish.key(self.reads()), *tensors)

    @property
    def lanes(self) -> int:
        """Pixels of a vector, outputs of a strip."""
        return self.dot.lanes

    @property
    def steps(self) -> int:
        """Words of a pixel."""
        return -(-self.inputs // BLOCK_INPUTS) * (BLOCK_INPUTS // self.dot.depth)

    @property
    def strips(self) -> int:
        """Vectors of outputs."""
        return -(-self.outputs // self.lanes)

    @property
    def _vectors(self) -> list[tuple[int, int, int]]:
        return tile_runs(-(-self.pixels // self.lanes), most_vectors(self.dot.isa, self.rows))

    def scratch_bytes(self, isa: Isa) -> int:
        widest = max(width for _, width, _ in self._vectors)
        return 4 * (self.steps + self.lanes) * widest * self.lanes

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
        for first, width, count in self._vectors:
            work = _Work(self, b, pointers, scratch, width)
            with b.split(count) as t:
                pixel = b.let((t * width + first) * self.lanes, "pixel")
                work.turn(pixel)
                with b.each(self.strips) as strip:
                    with b.each(self.lanes // self.rows) as part:
                        work.sum(strip, part)
                    work.finish(pixel, strip)


@dataclass
class _Work:
    """The code for tiles of `width` vectors of pixels."""

    kernel: SparseIntegerProduct
    b: Builder
    pointers: dict[int, Pointer]
    scratch: Pointer
    width: int

    @property
    def span(self) -> int:
        """Pixels of a tile."""
        return self.width * self.kernel.lanes

    @property
    def stage(self) -> int:
        """Where sums lie in scratch."""
        return self.kernel.steps * self.span

    def turn(self, pixel: Any) -> None:
        """Activations of the tile to the panel; pixels beyond the last are the last."""
        k, b = self.kernel, self.b
        lanes, depth, source = k.lanes, k.dot.depth, self.pointers[id(k.source)]
        squares = k.steps // lanes
        with b.each(self.width) as j:
            at = [
                b.let(tir.min(pixel + (j * lanes + i), int32(k.pixels - 1)) * k.pitch, "at")
                for i in range(lanes)
            ]
            if squares:
                with b.each(squares) as square:
                    step = b.let(square * lanes)
                    rows = [b.hold(self._words(source, place + step * depth)) for place in at]
                    for i, column in enumerate(turned(b, rows)):
                        b.store(self.scratch, (step + i) * self.span + j * lanes, column)
            for step in range(squares * lanes, k.steps):
                for i, place in enumerate(at):
                    word = k.dot.words(source, place + step * depth, 1)
                    b.store(self.scratch, step * self.span + j * lanes + i, tir.reinterpret("float32", word))

    def _words(self, source: Pointer, offset: Any) -> Any:
        k = self.kernel
        return tir.reinterpret(f"float32x{k.lanes}", k.dot.words(source, offset, k.lanes))

    def sum(self, strip: Any, part: Any) -> None:
        """Sums of `rows` outputs of a strip, to the stage."""
        k, b = self.kernel, self.b
        lanes, groups = k.lanes, k.lanes // k.rows
        starts, columns = self.pointers[id(k.starts)], self.pointers[id(k.columns)]
        weights, each = self.pointers[id(k.words)], BLOCK_INPUTS // k.dot.depth
        group = b.let(strip * groups + part, "group")
        tile = RegisterTile(b, k.rows, self.width, lanes, "int32")
        tile.start(lambda r, j: constant(0, "int32", lanes))
        first = b.let(starts.load(group), "first")
        with b.loop(b.let(starts.load(group + 1) - first, "blocks"), first) as block:
            at = b.let(columns.load(block) * self.span, "at")
            for step in range(each):
                scalar = scalars(b, weights, b.let((block * each + step) * k.rows), k.rows)
                x = [b.let(self._pixels(at + step * self.span + j * lanes), "xv") for j in range(self.width)]
                for r in range(k.rows):
                    w = b.let(k.dot.repeated_weights(scalar(r)), "wv")
                    for j in range(self.width):
                        tile.set(r, j, k.dot.accumulate(b, tile.get(r, j), x[j], w))
        base = b.let(self.stage + part * (k.rows * self.span), "stage")

        def keep(r: int, j: int, value: Any) -> None:
            place = base + (r * self.span + j * lanes)
            b.store(self.scratch, place, tir.reinterpret(f"float32x{lanes}", value))

        tile.finish(keep)

    def _pixels(self, offset: Any) -> Any:
        dot = self.kernel.dot
        return tir.reinterpret(f"{dot.reads}x{dot.lanes * dot.depth}", self.scratch.load(offset, dot.lanes))

    def finish(self, pixel: Any, strip: Any) -> None:
        """The epilogue of a strip of outputs for all pixels of the tile."""
        k, b = self.kernel, self.b
        lanes, bias = k.lanes, self.pointers[id(k.bias)]
        place = b.let(strip * lanes, "place")
        with b.each(self.width) as j:
            rows = [
                b.hold(self.scratch.load(self.stage + i * self.span + j * lanes, lanes)) for i in range(lanes)
            ]
            start = b.hold(bias.load(place, lanes))
            for i, column in enumerate(turned(b, rows)):
                now = b.let(pixel + (j * lanes + i), "now")
                sums = b.hold(tir.reinterpret(f"int32x{lanes}", column) + start)
                with b.when(now < k.pixels):
                    self._store(sums, strip, Spot(place, place, b.let(now * k.out_pitch + place, "to")))

    def _store(self, sums: Any, strip: Any, spot: Spot) -> None:
        k, b = self.kernel, self.b
        last = k.strips - 1
        keep = k.room - last * k.lanes
        if keep >= k.lanes:
            k.finish.store(b, self.pointers, [sums], spot, k.out, k.lanes)
            return
        with b.when(tir.EQ(strip, int32(last))):
            k.finish.store(b, self.pointers, [sums], spot, k.out, keep)
        if last:
            with b.when(tir.NE(strip, int32(last))):
                k.finish.store(b, self.pointers, [sums], spot, k.out, k.lanes)
