"""The code of a recurrent kernel's time loop, for one direction and some blocks of the batch's rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm import tirx as tir

from ..dims import is_fixed
from .any_rows import rest_tiles
from .builder import Builder, Pointer, constant, int32
from .recurrent_cells import Cell, Phase
from .recurrent_sums import Sums
from .storing import store_first
from .tensor import Tensor

if TYPE_CHECKING:
    from .recurrent import Recurrent

__all__ = ["TimeLoop"]


@dataclass
class TimeLoop:
    """`count` blocks of rows from block `first` of a direction, through all steps."""

    kernel: Recurrent
    b: Builder
    pointers: dict[int, Pointer]
    cell: Cell
    direction: Any
    first: Any
    count: Any

    def __post_init__(self) -> None:
        k, self.lanes = self.kernel, self.b.isa.lanes
        self.steps, self.batch = k.products.shape[0], k.products.shape[1]
        self.vectors = -(-k.hidden // self.lanes)
        self.row_pitch = self.vectors * self.lanes
        self.step: Any = int32(0)

    def run(self) -> None:
        """First states, all steps, last states."""
        b, kernel = self.b, self.kernel
        rows = [b.let(tir.min(n * kernel.plan.rows, int32(self.batch)), "row") for n in self._ends()]
        with b.loop(b.let(rows[1] - rows[0]), rows[0]) as row:
            self._begin(row)
        with b.loop(self.steps) as step:
            self.step = step
            for number, phase in enumerate(self.cell.phases):
                self._phase(number, phase)
        with b.loop(b.let(rows[1] - rows[0]), rows[0]) as row:
            self._end(row)

    def _ends(self) -> tuple[Any, Any]:
        return self.first, self.first + self.count

    # ---- places -----------------------------------------------------------------------------
    def pointer(self, tensor: Tensor) -> Pointer:
        return self.pointers[id(tensor)]

    def state_offset(self, name: str, row: Any, *, new: bool) -> Any:
        """Where a row of a state starts; "h" has two planes, which steps write in turn."""
        tensor = self.kernel.states[name]
        offset = (self.direction * self.batch + row) * self.row_pitch
        if name == "h":
            plane = tir.bitwise_and(self.step + int(new), int32(1))
            offset = offset + plane * tensor.strides[0]
        return offset

    def length(self, row: Any) -> Any:
        """Steps of a row that count, as the caller says, between 0 and all."""
        lengths = self.kernel.lengths
        if lengths is None:
            return int32(self.steps)
        given = self.pointer(lengths).load(row * lengths.strides[0])
        return tir.max(tir.min(given, int32(self.steps)), int32(0))

    def time(self, row: Any) -> Any:
        """The time of this step of a row, 0 where a reversed row has no more."""
        backward = self.kernel.reversed_
        if not any(backward):
            return self.step
        back = tir.max(self.length(row) - 1 - self.step, int32(0))
        if all(backward):
            return back
        return tir.Select(tir.EQ(self.direction, int32(0)), self.step, back)

    # ---- first and last states --------------------------------------------------------------
    def _begin(self, row: Any) -> None:
        """The states that the caller gave, or zero, and zero in what fills the last vector."""
        self.step = int32(0)
        for name in ("h", *(s for s in self.kernel.states if s == "c")):
            state = self.pointer(self.kernel.states[name])
            target = self.b.let(self.state_offset(name, row, new=False))
            given = self.kernel.initial.get(name)
            for at, lanes in self._pieces():
                self._copy_in(given, row, state, target, at, lanes)

    def _copy_in(
        self, given: Tensor | None, row: Any, state: Pointer, target: Any, at: int, lanes: int
    ) -> None:
        zero = constant(0.0, "float32", lanes)
        if given is None or at >= self.kernel.hidden:
            self.b.store(state, target + at, zero)
            return
        source = self.direction * given.strides[0] + row * given.strides[1] + at
        self.b.store(state, target + at, self.pointer(given).load(source, lanes))

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """(first unit, lanes): whole vectors, then single units, to the end of the last vector."""
        whole = self.kernel.hidden // self.lanes * self.lanes
        yield from ((at, self.lanes) for at in range(0, whole, self.lanes))
        yield from ((at, 1) for at in range(whole, self.row_pitch))

    def _end(self, row: Any) -> None:
        self.step = int32(self.steps)
        for name, target in self.kernel.last.items():
            state = self.pointer(self.kernel.states[name])
            source = self.b.let(self.state_offset(name, row, new=False))
            base = self.b.let(self.direction * target.strides[0] + row * target.strides[1])
            for at, lanes in self._pieces():
                if at < self.kernel.hidden:
                    self.b.store(self.pointer(target), base + at, state.load(source + at, lanes))

    # ---- one step ---------------------------------------------------------------------------
    def _phase(self, number: int, phase: Phase) -> None:
        b, kernel = self.b, self.kernel
        size = kernel.weights[number].size // len(kernel.reversed_)
        for first, width, tiles in kernel.plan.runs(number, self.vectors):
            with b.each(tiles) as turn:
                # there and back: what a step read last, and is still in the cache, the next one reads first
                odd = tir.EQ(tir.bitwise_and(self.step, int32(1)), int32(1))
                tile = b.let(tir.Select(odd, int32(tiles - 1) - turn, turn))
                vector = b.let(tile * width + first)
                start = self.direction * size + vector * (kernel.hidden * phase.gates * self.lanes)
                panel = b.let(start)
                for row, height in self._blocks():
                    self._tile(number, phase, panel, vector, width, [b.let(row + r) for r in range(height)])

    def _blocks(self) -> Iterator[tuple[Any, int]]:
        """(first row, rows) of the blocks; what does not fill one is a lower block, or several."""
        b, rows = self.b, self.kernel.plan.rows
        if is_fixed(self.batch) and self.batch == rows:
            yield int32(0), rows
            return
        full, tail = divmod(self.batch, rows)
        end = b.let(tir.min(self.first + self.count, int32(full)))
        with b.loop(b.let(end - self.first), self.first) as block:
            yield b.let(block * rows), rows
        if is_fixed(tail) and tail == 0:
            return
        with b.when(self.first + self.count > full):
            if is_fixed(tail):
                yield int32(full * rows), tail
            else:
                yield from rest_tiles(b, b.let(int32(full * rows)), tail, rows)

    def _tile(self, number: int, phase: Phase, panel: Any, vector: Any, width: int, rows: list[Any]) -> None:
        weights = self.pointer(self.kernel.weights[number])
        sums = Sums(self, phase, weights, panel, vector, width, rows)
        for r in range(len(rows)):
            for j in range(width):
                self._finish(number, _Unit(sums, r, j))

    def _finish(self, number: int, unit: _Unit) -> None:
        if self.kernel.lengths is None:
            self.cell.compute(number, unit)
            return
        valid = self.step < self.length(unit.row)
        with self.b.when(valid):
            self.cell.compute(number, unit)
        if number == len(self.cell.phases) - 1:
            with self.b.when(tir.Not(valid)):
                unit.skip()


@dataclass
class _Unit:
    """A vector of hidden units of one row: `Unit` of recurrent_cells.py."""

    sums: Sums
    r: int
    j: int

    def __post_init__(self) -> None:
        self.loop, self.row = self.sums.loop, self.sums.rows[self.r]
        self.b = self.loop.b
        self.at = (self.sums.vector + self.j) * self.loop.lanes

    def sum(self, gate: int) -> Any:
        return self.sums.total(self.r, self.j, gate)

    def product(self, gate: int) -> Any:
        return self.sums.product(self.r, self.j, gate)

    def parameter(self, row: int) -> Any:
        return self.sums.parameter(row, self.j)

    def load(self, state: str) -> Any:
        offset = self.loop.state_offset(state, self.row, new=False) + self.at
        return self.loop.pointer(self.loop.kernel.states[state]).load(offset, self.loop.lanes)

    def store(self, state: str, value: Any) -> None:
        offset = self.loop.state_offset(state, self.row, new=True) + self.at
        self.b.store(self.loop.pointer(self.loop.kernel.states[state]), offset, value)
        if state == "h":
            self._output(self.loop.time(self.row), value)

    def skip(self) -> None:
        """A step behind the row's end: its state stays, its output is zero."""
        state = self.loop.pointer(self.loop.kernel.states["h"])
        offset = self.loop.state_offset("h", self.row, new=True) + self.at
        self.b.store(state, offset, self.load("h"))
        self._output(self.loop.step, constant(0.0, "float32", self.loop.lanes))

    def _output(self, time: Any, value: Any) -> None:
        y, lanes = self.loop.kernel.y, self.loop.lanes
        if y is None:
            return
        base = time * y.strides[0] + self.loop.direction * y.strides[1] + self.row * y.strides[2]
        hidden, vectors = self.loop.kernel.hidden, self.loop.vectors
        target, ragged = self.loop.pointer(y), hidden % lanes
        vector = self.sums.vector + self.j
        if not ragged:
            self.b.store(target, base + self.at, value)
            return
        with self.b.when(tir.EQ(vector, int32(vectors - 1))):
            store_first(self.b, target, base + self.at, value, lanes, ragged)
        with self.b.when(tir.NE(vector, int32(vectors - 1))):
            self.b.store(target, base + self.at, value)
