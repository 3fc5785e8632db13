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
from .storing import store_first
from .sweep import Sweep, WindowReader, free_rows, narrow_lanes
from .tensor import Tensor
from .window import Window

__all__ = ["Depthwise"]


@dataclass(eq=False)
class Depthwise(Kernel):
    """`source`: (N, C, H, W) with rows without gaps; `weights`: (M, KH · KW) with M a multiple of C;
    `out`: (N, M, OH, OW). `sweep.readable` says where `source` may lie."""

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

    @property
    def key(self) -> tuple[Any, ...]:
        tensors = [Leaf(t).key for t in (*self.reads(), self.out)]
        shared = sharing(self.reads(), self.epilogue)
        return ("depthwise", self.window, self.bias is not None, self.epilogue.key, shared, *tensors)

    def sweep(self, isa: Isa) -> Sweep:
        """The blocks this kernel works in."""
        lanes = narrow_lanes(isa.lanes, self.window.out_size[1])
        return Sweep(self.window, lanes, _block_rows(self.window, isa.registers), free_rows(self.out, lanes))

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
        kw = self.kernel.window.kernel[1]
        for r, ky, kx, pixels in self.reader.pixels(y, rows, x):
            weight = tir.Broadcast(self.taps[ky * kw + kx], lanes)
            tile.set(r, 0, b.isa.multiply_add(weight, pixels, tile.get(r, 0)))
        tile.finish(lambda r, j, value: self._store(y, r, x, value))

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
