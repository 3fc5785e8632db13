"""The time loop of LSTM, GRU and RNN in one kernel: h · R and the cell, a vector of hidden units at a time.

    sums[g] = products[t, b, g] + Σ_k h[k] · R[g, :, k]       h, c, y[t] = cell(sums, c)

The products of the inputs, all steps at once, are a matrix product before it. Gates of a unit lie in
registers side by side, so that nothing but states goes to memory. `recurrent_cells.py` says what a cell
computes, `recurrent_sums.py` sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from ..dims import Size, is_fixed
from .builder import Builder, Pointer, int32
from .isa import Isa
from .kernel import Kernel
from .lazy import Leaf
from .recurrent_cells import Cell
from .recurrent_loop import TimeLoop
from .recurrent_sums import vectors_at_once
from .register_tile import fits, tile_runs
from .tensor import Tensor

__all__ = ["Recurrent", "RecurrentPlan"]


@dataclass(frozen=True)
class RecurrentPlan:
    """Tiles of the sums: rows of the batch, and for each phase vectors of hidden units."""

    rows: int
    units: tuple[int, ...]

    @classmethod
    def of(cls, isa: Isa, cell: Cell, batch: Size, hidden: int) -> RecurrentPlan:
        """The tile that a batch of this size takes."""
        vectors = -(-hidden // isa.lanes)
        if is_fixed(batch) and batch == 1:
            most = vectors_at_once(isa.registers)
            return cls(1, tuple(min(vectors, max(1, most // p.gates)) for p in cell.phases))
        units = tuple(min(vectors, max(1, 4 // p.gates)) for p in cell.phases)
        widest = max(p.gates * n for p, n in zip(cell.phases, units, strict=True))
        rows = next((n for n in (6, 5, 4, 3, 2) if fits(isa, n, widest)), 1)
        if is_fixed(batch):
            rows = -(-int(batch) // -(-int(batch) // rows))
        return cls(rows, units)

    def runs(self, phase: int, vectors: int) -> list[tuple[int, int, int]]:
        """(first vector of units, vectors, tiles) of a phase."""
        return tile_runs(vectors, self.units[phase])


@dataclass(eq=False)
class Recurrent(Kernel):
    """T steps of B rows, D directions, H hidden units in V whole vectors of n lanes.

    `products`: (T, B, D · V · gates · n), a unit's gates n apart; `weights`: for each phase, flat, (D,
    panels); `parameters`: (D, rows, V · n) or None; `lengths`: (B,) int32 or None; `initial`: state ->
    (D, B, H); `y`: (T, D, B, H), `last`: state -> (D, B, H), each where it is wanted; `states`: state ->
    (D, B, V · n), and (2, D, B, V · n) of "h". Strides of what is read or written outside are free but for
    the last axis. `reversed_`: for each direction, whether it starts at the end.
    """

    cells: tuple[Cell, ...]
    reversed_: tuple[bool, ...]
    plan: RecurrentPlan
    hidden: int
    products: Tensor
    weights: tuple[Tensor, ...]
    parameters: Tensor | None
    lengths: Tensor | None
    initial: Mapping[str, Tensor]
    y: Tensor | None
    last: Mapping[str, Tensor]
    states: Mapping[str, Tensor]
    family = "recurrent"

    def reads(self) -> Sequence[Tensor]:
        given = [t for t in (self.parameters, self.lengths) if t is not None]
        own = [self.products, *self.weights, *given, *self.initial.values()]
        return list({id(t): t for t in own}.values())

    def writes(self) -> Sequence[Tensor]:
        return [*([self.y] if self.y is not None else []), *self.last.values(), *self.states.values()]

    @property
    def key(self) -> tuple[Any, ...]:
        order = {id(t): i for i, t in enumerate(self.reads())}
        named = [self.parameters, self.lengths, *self.initial.values()]
        places = [None if t is None else order[id(t)] for t in (self.products, *self.weights, *named)]
        names = (tuple(self.initial), tuple(self.last), tuple(self.states), self.y is not None)
        tensors = [Leaf(t).key for t in (*self.reads(), *self.writes())]
        own = ("recurrent", self.cells, self.reversed_, self.plan, self.hidden)
        return (*own, names, tuple(places), *tensors)

    def emit(self, b: Builder, pointers: dict[int, Pointer], scratch: Pointer | None) -> None:
        batch = self.products.shape[1]
        blocks = (batch + (self.plan.rows - 1)) // self.plan.rows
        with b.split_grid(len(self.reversed_), blocks) as (direction, first, count):
            if len(set(self.cells)) == 1:
                TimeLoop(self, b, pointers, self.cells[0], direction, first, count).run()
                return
            for d, cell in enumerate(self.cells):
                with b.when(tir.EQ(direction, int32(d))):
                    TimeLoop(self, b, pointers, cell, int32(d), first, count).run()
