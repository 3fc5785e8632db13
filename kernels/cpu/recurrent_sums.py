"""Sums of a recurrent step in a register tile: products of the input plus a state times recurrent weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tvm import tirx as tir

from .builder import Pointer, constant
from .recurrent_cells import Phase
from .register_tile import RegisterTile, scalars

if TYPE_CHECKING:
    from .recurrent_loop import TimeLoop

__all__ = ["Sums", "vectors_at_once"]


def vectors_at_once(registers: int) -> int:
    """Sums of one row, of different gates or parts of H, that hide the latency of multiply-adds."""
    return 8 if registers >= 32 else 4


@dataclass
class Sums:
    """The sums of `rows` for one panel of recurrent weights, (H, width · gates, lanes) from `panel` on.

    `vector` is the panel's first vector of hidden units. A single row has several chains of sums.
    """

    loop: TimeLoop
    phase: Phase
    weights: Pointer
    panel: Any
    vector: Any
    width: int
    rows: list[Any]
    tile: RegisterTile = field(init=False)

    def __post_init__(self) -> None:
        self.b, self.lanes = self.loop.b, self.loop.lanes
        self.columns = self.width * self.phase.gates
        single = len(self.rows) == 1
        most = vectors_at_once(self.b.isa.registers) // self.columns
        self.chains = max(1, min(self.loop.kernel.hidden, most)) if single else 1
        self.tile = RegisterTile(self.b, max(self.chains, len(self.rows)), self.columns, self.lanes)
        self.tile.start(lambda r, j: self._first(0 if single else r, r if single else 0, j))
        self._add_products()

    def total(self, row: int, unit: int, gate: int) -> Any:
        """A sum of the `row`-th row, the `unit`-th vector of hidden units."""
        column = unit * self.phase.gates + gate - self.phase.first
        if self.chains == 1:
            return self.tile.get(row, column)
        value = self.tile.get(0, column)
        for chain in range(1, self.chains):
            value = value + self.tile.get(chain, column)
        return self.b.hold(value)

    def product(self, row: int, unit: int, gate: int) -> Any:
        """The input's products (and bias) of a vector of units."""
        tensor, at = self.loop.kernel.products, self.rows[row]
        base = self.loop.time(at) * tensor.strides[0] + at * tensor.strides[1]
        vector = self.loop.direction * self.loop.vectors + self.vector + unit
        column = vector * self.loop.cell.gates + gate
        return self.loop.pointer(tensor).load(base + column * self.lanes, self.lanes)

    def parameter(self, row: int, unit: int) -> Any:
        """A row of parameters of a vector of units."""
        tensor = self.loop.kernel.parameters
        assert tensor is not None
        base = self.loop.direction * tensor.strides[0] + row * tensor.strides[1]
        return self.loop.pointer(tensor).load(base + (self.vector + unit) * self.lanes, self.lanes)

    def _first(self, row: int, chain: int, column: int) -> Any:
        """What a sum starts from."""
        unit, gate = divmod(column, self.phase.gates)
        gate += self.phase.first
        if chain:
            return constant(0.0, "float32", self.lanes)
        return self.parameter(0, unit) if gate == self.phase.apart else self.product(row, unit, gate)

    def _add_products(self) -> None:
        b, hidden = self.b, self.loop.kernel.hidden
        starts = [b.let(self.loop.state_offset(self.phase.source, row, new=False), "h") for row in self.rows]
        group = self.lanes if b.isa.target.broadcast == "lane" else self.chains
        whole = hidden // group
        if whole:
            with b.loop(whole) as i:
                self._steps(starts, b.let(i * group, "k"), group)
        for k in range(whole * group, hidden):
            self._steps(starts, k, 1)

    def _steps(self, starts: list[Any], first: Any, count: int) -> None:
        """`count` neighbouring inputs k from `first`."""
        b, pitch = self.b, self.columns * self.lanes
        source = self.loop.pointer(self.loop.kernel.states[self.phase.source])
        inputs = [scalars(b, source, b.let(start + first), count) for start in starts]
        base = b.let(self.panel + first * pitch, "w")
        for step in range(count):
            columns = [
                b.let(self.weights.load(base + (step * pitch + j * self.lanes), self.lanes), "wv")
                for j in range(self.columns)
            ]
            for r, scalar in enumerate(inputs):
                value = tir.Broadcast(b.let(scalar(step), "hv"), self.lanes)
                place = step % self.chains if self.chains > 1 else r
                for j, column in enumerate(columns):
                    total = b.isa.multiply_add(value, column, self.tile.get(place, j))
                    self.tile.set(place, j, total)
