"""Depthwise convolution: every output channel reads one input channel.

A channel's plane is copied once into padded scratch, then rows are computed in vectors without any test for
borders. Whole vectors are stored even where a row ends inside one: the next row overwrites the excess, and
the last row is stored exactly.
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
from .planes import PlaneLayout, emit_plane
from .tensor import Tensor
from .window import Window

__all__ = ["Depthwise"]


@dataclass(eq=False)
class Depthwise(Kernel):
    """`source`: (N, C, H, W); `weights`: (M, KH · KW) with M a multiple of C; `out`: (N, M, OH, OW)."""

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

    def lanes(self, isa: Isa) -> int:
        """Vector length: no wider than a row needs."""
        lanes = isa.lanes
        while lanes > 4 and lanes // 2 >= self.window.out_size[1]:
            lanes //= 2
        return lanes

    def layout(self, isa: Isa) -> PlaneLayout:
        return PlaneLayout.of(self.window, self.lanes(isa))

    def scratch_bytes(self, isa: Isa) -> int:
        layout = self.layout(isa)
        return 4 * (layout.size + layout.slack(isa.lanes))

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        assert scratch is not None
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
            layout = self.layout(b.isa)
            emit_plane(b, layout, pointers[id(self.source)], start, self.source.strides[2], scratch, int32(0))
            self._plane(b, pointers, scratch, n, m)

    def _plane(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer, n: Any, m: Any) -> None:
        weights = pointers[id(self.weights)]
        taps = [b.let(weights.load(m * self.window.taps + t)) for t in range(self.window.taps)]
        bias = b.let(pointers[id(self.bias)].load(m)) if self.bias else constant(0.0, "float32")
        rows = _Rows(self, b, Scope(b, pointers), scratch, n, m, taps, bias)
        height = self.window.out_size[0]
        free = self._free_rows(b.isa)
        if free:
            with b.loop(free) as y:
                rows.row(y, exact=False)
        with b.loop(height - free, free) as y:
            rows.row(y, exact=True)

    def _free_rows(self, isa: Isa) -> int:
        """Rows whose whole vectors end inside the plane: later rows overwrite what lies past their end.

        The plane behind belongs to another thread, which may have finished it.
        """
        height, width = self.window.out_size
        lanes = self.lanes(isa)
        reach = -(-width // lanes) * lanes
        inside = (self.out.strides[1] - reach) // width + 1
        return max(0, min(height - 1, inside))


@dataclass
class _Rows:
    kernel: Depthwise
    b: Builder
    scope: Scope
    scratch: Pointer
    n: Any
    m: Any
    taps: list[Any]
    bias: Any

    def row(self, y: Any, exact: bool) -> None:
        """One output row; `exact` writes nothing past its end."""
        k, b = self.kernel, self.b
        lanes, width = k.lanes(b.isa), k.window.out_size[1]
        full, tail = divmod(width, lanes)
        if full:
            with b.loop(full) as j:
                self._vector(y, j * lanes, lanes, lanes)
        if tail:
            self._vector(y, int32(full * lanes), lanes, tail if exact else lanes)

    def _vector(self, y: Any, x: Any, lanes: int, keep: int) -> None:
        k, b = self.kernel, self.b
        layout, kw = k.layout(b.isa), k.window.kernel[1]
        at = b.let(y * layout.pixel_row + x)
        value = tir.Broadcast(self.bias, lanes)
        for tap, weight in enumerate(self.taps):
            pixels = self.scratch.load(at + layout.tap(*divmod(tap, kw)), lanes)
            value = b.let(b.isa.multiply_add(tir.Broadcast(weight, lanes), pixels, value))
        place = b.let(y * k.window.out_size[1] + x)

        def operand(leaf: Leaf) -> Any:
            return operand_vector(self.scope, leaf, k.out, self.n, self.m, place, lanes)

        result = b.let(evaluate(k.epilogue, self.scope, value, operand))
        offset = self.n * k.out.strides[0] + self.m * k.out.strides[1] + place
        store_first(b, self.scope.pointers[id(k.out)], offset, result, lanes, keep)


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
