"""What one step of LSTM, GRU and RNN computes of a vector of hidden units.

https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html. A cell says how many gates
there are, in which phases their sums are made (a phase multiplies one state by the recurrent weights of some
gates), which states it keeps, and what becomes of the sums. A value is a vector of hidden units of one row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from .arithmetic import FUNCTIONS, maximum, minimum
from .builder import Builder, constant, lanes_of

__all__ = ["Activation", "Cell", "GruCell", "LstmCell", "Phase", "RnnCell", "Unit"]


@dataclass(frozen=True)
class Activation:
    """An elementwise function by ONNX's name; `alpha` and `beta` as its operator has them."""

    name: str
    alpha: float = 1.0
    beta: float = 0.0

    def emit(self, b: Builder, x: Any) -> Any:
        """The function of `x`, which is held."""
        lanes = lanes_of(x)
        alpha, beta = (constant(v, "float32", lanes) for v in (self.alpha, self.beta))
        if self.name == "Affine":
            return b.hold(b.isa.multiply_add(alpha, x, beta))
        if self.name == "ScaledTanh":
            return b.hold(alpha * FUNCTIONS["Tanh"].emit(b, [b.hold(beta * x)], {}, "float32"))
        options = {"alpha": self.alpha, "beta": self.beta}
        return b.hold(FUNCTIONS[self.name].emit(b, [x], options, "float32"))


@dataclass(frozen=True)
class Phase:
    """Sums over the state `source`: of gates `first` to `first + gates - 1`.

    Sums of gates in `apart` start from a row of `Unit.parameter`, not from the products of the input.
    """

    source: str
    first: int
    gates: int
    apart: int = -1


class Unit(Protocol):
    """A vector of hidden units of one row while a step is computed."""

    b: Builder

    def sum(self, gate: int) -> Any:
        """The gate's sum, of a gate of the current phase."""

    def product(self, gate: int) -> Any:
        """The products of the input alone, with the bias."""

    def parameter(self, row: int) -> Any:
        """A row of the cell's parameters (peepholes, a recurrent bias), of these units."""

    def load(self, state: str) -> Any:
        """A state as it was before this step, or as stored by an earlier phase."""

    def store(self, state: str, value: Any) -> None:
        """A state's new value."""


@dataclass(frozen=True)
class Cell(ABC):
    """`activations`: f, g (and h); `clip` bounds what they take, 0: no bound."""

    activations: tuple[Activation, ...]
    clip: float

    @property
    @abstractmethod
    def gates(self) -> int:
        """Rows of hidden units in W and R."""

    @property
    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """In order."""

    @property
    @abstractmethod
    def states(self) -> tuple[str, ...]:
        """Names of states beside "h"."""

    @abstractmethod
    def compute(self, phase: int, unit: Unit) -> None:
        """What becomes of a phase's sums; the last phase stores "h"."""

    def gate(self, unit: Unit, activation: int, value: Any) -> Any:
        """An activation of a sum."""
        value = unit.b.hold(value)
        if self.clip:
            lanes = lanes_of(value)
            value = unit.b.hold(maximum(value, constant(-self.clip, "float32", lanes)))
            value = unit.b.hold(minimum(value, constant(self.clip, "float32", lanes)))
        return self.activations[activation].emit(unit.b, value)


def _rest(value: Any) -> Any:
    """1 - value."""
    return constant(1.0, "float32", lanes_of(value)) - value


@dataclass(frozen=True)
class RnnCell(Cell):
    """H = f(X W' + H R' + b)."""

    gates = 1
    states = ()
    phases = (Phase("h", 0, 1),)

    def compute(self, phase: int, unit: Unit) -> None:
        unit.store("h", self.gate(unit, 0, unit.sum(0)))


@dataclass(frozen=True)
class LstmCell(Cell):
    """Gates i, o, f, c; with `peepholes` the parameters are rows for i, o and f."""

    peepholes: bool
    coupled: bool  # f = 1 - i

    gates = 4
    states = ("c",)
    phases = (Phase("h", 0, 4),)

    def compute(self, phase: int, unit: Unit) -> None:
        b, before = unit.b, unit.b.hold(unit.load("c"))
        enter = self.gate(unit, 0, self._peeped(unit, 0, before))
        keep = b.hold(_rest(enter)) if self.coupled else self.gate(unit, 0, self._peeped(unit, 2, before))
        candidate = self.gate(unit, 1, unit.sum(3))
        after = b.hold(b.isa.multiply_add(keep, before, enter * candidate))
        leave = self.gate(unit, 0, self._peeped(unit, 1, after))
        unit.store("c", after)
        unit.store("h", b.hold(leave * self.gate(unit, 2, after)))

    def _peeped(self, unit: Unit, gate: int, state: Any) -> Any:
        value = unit.sum(gate)
        if not self.peepholes:
            return value
        return unit.b.isa.multiply_add(unit.parameter(gate), state, value)


@dataclass(frozen=True)
class GruCell(Cell):
    """Gates z, r, h. With `before` (linear_before_reset) the reset gate scales H R' + b, else H itself.

    Then the sums of gate h start from the recurrent bias, the only row of parameters.
    """

    before: bool
    gates = 3

    @property
    def states(self) -> tuple[str, ...]:
        return () if self.before else ("z", "reset")

    @property
    def phases(self) -> tuple[Phase, ...]:
        if self.before:
            return (Phase("h", 0, 3, apart=2),)
        return (Phase("h", 0, 2), Phase("reset", 2, 1))

    def compute(self, phase: int, unit: Unit) -> None:
        b = unit.b
        if self.before:
            update, reset = self.gate(unit, 0, unit.sum(0)), self.gate(unit, 0, unit.sum(1))
            self._finish(unit, update, b.isa.multiply_add(reset, unit.sum(2), unit.product(2)))
        elif phase == 0:
            unit.store("z", self.gate(unit, 0, unit.sum(0)))
            reset = self.gate(unit, 0, unit.sum(1))
            unit.store("reset", b.hold(reset * unit.load("h")))
        else:
            self._finish(unit, b.hold(unit.load("z")), unit.sum(2))

    def _finish(self, unit: Unit, update: Any, candidate: Any) -> None:
        b = unit.b
        kept = b.hold(update * unit.load("h"))
        value = self.gate(unit, 1, candidate)
        unit.store("h", b.hold(b.isa.multiply_add(b.hold(_rest(update)), value, kept)))
