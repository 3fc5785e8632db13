"""Depthwise convolution: every output channel reads one input channel.

A block of output rows is computed at once, one vector wide: an input vector, once loaded, feeds every row
whose window covers it. Window columns are the outer loop, so that few weights are in registers at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .convolution import operand_vector
from .epilogue import evaluate
from .isa import Isa
from .kernel import Kernel
from .lazy import Lazy, Leaf, Scope, leaves, sharing
from .register_tile import RegisterTile
from .sweep import Sweep, WindowReader, column_groups, narrow_lanes
from .tensor import Tensor
from .window import Window

__all__ = ["Depthwise"]


@dataclass(eq=False)
class Depthwise(Kernel):
    """`source`: (N, C, H, W) with rows without gaps; `weights`: (M, KH · KW) with M a multiple of C;
    `out`: (N, M, OH, OW) in planes of whole vectors. See `readable` for where `source` may lie."""

    source: Tensor
    weights: Tensor
    bias: Tensor | None
    out: Tensor
    window: Window
    epilogue: Lazy
    family = "depthwise"

    def reads(self) -> Sequence[Tensor]:
        own = [self.source, self.weights] + ([self.bias] if self.bias else [])
        return list({id(t): t for t in [*own, *leaves(self.epilogue)]}.values())

    def writes(self) -> Sequence[Tensor]:
        return (self.out,)

    @staticmethod
    def readable(source: Tensor, window: Window, isa: Isa) -> bool:
        """Whether `source` is read as it lies: rows without gaps, and memory behind it where rows are so
        narrow that vectors reach past the last one."""
        lanes = narrow_lanes(isa.lanes, window.out_size[1])
        within = window.in_size[1] >= window.strides[1] * lanes
        return source.strides[3] == 1 and (within or source.place == "arena")

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        return ("depthwise", self.window, self.bias is not None, self.epilogue.key, shared, *tensors)

    def sweep(self, isa: Isa) -> Sweep:
        """The blocks this kernel works in."""
        height, width = self.window.out_size
        lanes = narrow_lanes(isa.lanes, width)
        free = height
        if width < lanes:  # a vector reaches past its row; it must not reach past the plane
            free = max(0, min(height, (self.out.strides[1] - lanes) // width + 1))
        return Sweep(self.window, lanes, _block_rows(self.window, isa.registers), free)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        batch, channels = self.source.shape[:2]
        outputs = self.out.shape[1]
        with b.split(batch * outputs) as plane:
            n, m = (
                (int32(0), plane)
                if batch == 1
                else (tir.truncdiv(plane, int32(outputs)), tir.truncmod(plane, int32(outputs)))
            )
            c = m if outputs == channels else tir.truncdiv(m, int32(outputs // channels))
            start = b.let(n * self.source.strides[0] + c * self.source.strides[1])
            sweep = self.sweep(b.isa)
            source = pointers[id(self.source)]
            reader = WindowReader(b, self.window, sweep.lanes, source, start, self.source.strides[2])
            weights = pointers[id(self.weights)]
            taps = [b.let(weights.load(m * self.window.taps + t), "w") for t in range(self.window.taps)]
            bias = b.let(pointers[id(self.bias)].load(m)) if self.bias else constant(0.0, "float32")
            sweep.emit(b, _Block(self, b, Scope(b, pointers), sweep, reader, n, m, taps, bias).emit)


def _block_rows(window: Window, registers: int) -> int:
    """Rows of a block, by loads or multiply-adds of a plane, whichever are more."""
    height, (kh, kw) = window.out_size[0], window.kernel
    span = (kh - 1) * window.dilations[0] + 1

    def cost(rows: int) -> int:
        full, rest = divmod(height, rows)
        blocks = [rows] * full + ([rest] if rest else [])
        loads = [kw * ((count - 1) * window.strides[0] + span) for count in blocks]
        return sum(max(count * kh * kw, n) + 4 for count, n in zip(blocks, loads, strict=True))

    most = 8 if registers >= 32 else 4  # measured: with 16 registers, more rows spill
    return min(range(1, min(most, height) + 1), key=cost)


@dataclass
class _Block:
    kernel: Depthwise
    b: Builder
    scope: Scope
    sweep: Sweep
    reader: WindowReader
    n: Any
    m: Any
    taps: list[Any]
    bias: Any

    def emit(self, y: Any, rows: int, x: Any) -> None:
        """`rows` output rows from y, one vector of columns from x."""
        b, lanes = self.b, self.sweep.lanes
        tile = RegisterTile(b, rows, 1, lanes)
        tile.start(lambda r, j: tir.Broadcast(self.bias, lanes))
        place = self.reader.place(y, x)
        for start, columns in column_groups(self.kernel.window):
            for i in self._input_rows(rows):
                if self.reader.has_row(y, i):
                    self._accumulate(tile, place, i, x, start, columns)
        tile.finish(lambda r, j, value: self._store(y, r, x, value))

    def _input_rows(self, rows: int) -> list[int]:
        w = self.kernel.window
        return sorted(
            {r * w.strides[0] + k * w.dilations[0] for r in range(rows) for k in range(w.kernel[0])}
        )

    def _accumulate(
        self, tile: RegisterTile, place: Any, i: int, x: Any, start: int, columns: list[tuple[int, int]]
    ) -> None:
        """Adds what input row i gives to every output row that sees it."""
        b, w = self.b, self.kernel.window
        vectors = self.reader.group(place, i, x, start, [phase for _, phase in columns])
        for (kx, _), pixels in zip(columns, vectors, strict=True):
            if pixels is None:
                continue
            pixels = b.hold(pixels)
            for r in range(tile.rows):
                ky, rest = divmod(i - r * w.strides[0], w.dilations[0])
                if rest == 0 and 0 <= ky < w.kernel[0]:
                    weight = tir.Broadcast(self.taps[ky * w.kernel[1] + kx], self.sweep.lanes)
                    tile.set(r, 0, b.isa.multiply_add(weight, pixels, tile.get(r, 0)))

    def _store(self, y: Any, r: int, x: Any, value: Any) -> None:
        k, b, lanes = self.kernel, self.b, self.sweep.lanes
        width = k.window.out_size[1]
        place = b.let((y + r) * width + int32(x))

        def operand(leaf: Leaf) -> Any:
            return operand_vector(self.scope, leaf, k.out, self.n, self.m, place, lanes)

        result = b.hold(evaluate(k.epilogue, self.scope, value, operand))
        offset = self.n * k.out.strides[0] + self.m * k.out.strides[1] + place
        free = not isinstance(y, int) or y + r < self.sweep.free_rows
        store_first(b, self.scope.pointers[id(k.out)], offset, result, lanes, lanes if free else width)


def store_first(b: Builder, out: Pointer, offset: Any, value: Any, lanes: int, keep: int) -> None:
    """Stores the first `keep` lanes of `value`, through the stack when they are not all."""
    if keep == lanes:
        b.store(out, offset, value)
        return
    spill = b.stack("float32", lanes)
    b.store(spill, 0, value)
    done = 0
    while done < keep:
        piece = 1 << ((keep - done).bit_length() - 1)
        b.store(out, offset + done, spill.load(done, piece))
        done += piece
