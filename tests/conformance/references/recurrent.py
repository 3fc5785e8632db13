"""LSTM, GRU and RNN with their usual activations, step by step.

https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...tolerances import tolerance
from ..bounded import Array, Attributes, Bounded, defines

Step = Callable[["_Direction", Array, list[Bounded]], list[Bounded]]
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _add(a: Bounded, b: Bounded) -> Bounded:
    return Bounded(a.value + b.value, a.error + b.error + tolerance("Add") * (abs(a.value) + abs(b.value)))


def _times(a: Bounded, b: Bounded) -> Bounded:
    error = abs(a.value) * b.error + abs(b.value) * a.error + a.error * b.error
    return Bounded(a.value * b.value, error + tolerance("Mul") * abs(a.value * b.value))


def _sigmoid(x: Bounded) -> Bounded:
    value = 1 / (1 + np.exp(-x.value))
    return Bounded(value, x.error / 4 + tolerance("Sigmoid") * (1 + abs(x.value)) * value)


def _tanh(x: Bounded) -> Bounded:
    return Bounded(np.tanh(x.value), x.error + tolerance("Tanh"))


def _rest(x: Bounded) -> Bounded:
    return Bounded(1 - x.value, x.error + tolerance("Sub"))


@dataclass(frozen=True)
class _Direction:
    """Weights of one direction: w (G, H, I), r (G, H, H), the biases wb and rb (G, H)."""

    w: Array
    r: Array
    wb: Array
    rb: Array

    def inputs(self, x: Array, gate: int) -> Bounded:
        """Products of the inputs, with their bias."""
        magnitude = abs(x) @ abs(self.w[gate].T) + abs(self.wb[gate])
        return Bounded(x @ self.w[gate].T + self.wb[gate], tolerance("MatMul") * magnitude)

    def state(self, h: Bounded, gate: int) -> Bounded:
        """Products of a state, with the recurrent bias."""
        matrix = self.r[gate].T
        magnitude = abs(h.value) @ abs(matrix) + abs(self.rb[gate])
        error = np.sqrt(h.error**2 @ matrix**2) + tolerance("MatMul") * magnitude
        return Bounded(h.value @ matrix + self.rb[gate], error)

    def gate(self, x: Array, h: Bounded, gate: int) -> Bounded:
        """Both."""
        return _add(self.inputs(x, gate), self.state(h, gate))


def _rnn(d: _Direction, x: Array, states: list[Bounded]) -> list[Bounded]:
    return [_tanh(d.gate(x, states[0], 0))]


def _lstm(d: _Direction, x: Array, states: list[Bounded]) -> list[Bounded]:
    h, c = states
    enter, leave, keep = (_sigmoid(d.gate(x, h, gate)) for gate in range(3))
    c = _add(_times(keep, c), _times(enter, _tanh(d.gate(x, h, 3))))
    return [_times(leave, _tanh(c)), c]


def _gru(before: bool) -> Step:
    def step(d: _Direction, x: Array, states: list[Bounded]) -> list[Bounded]:
        (h,) = states
        update, reset = (_sigmoid(d.gate(x, h, gate)) for gate in range(2))
        state = _times(reset, d.state(h, 2)) if before else d.state(_times(reset, h), 2)
        candidate = _tanh(_add(d.inputs(x, 2), state))
        return [_add(_times(_rest(update), candidate), _times(update, h))]

    return step


@defines("LSTM", "GRU", "RNN")
def recurrent(
    operator: str,
    attributes: Attributes,
    x: Bounded,
    w: Bounded,
    r: Bounded,
    bias: Bounded | None = None,
    lengths: Bounded | None = None,
) -> tuple[Bounded, ...]:
    """All outputs; x, w, r and the bias are exact, states begin at zero."""
    steps, batch, _ = x.shape
    count, hidden = _GATES[operator], r.shape[2]
    step = {"LSTM": _lstm, "RNN": _rnn}.get(operator) or _gru(bool(attributes.get("linear_before_reset")))
    ends = np.full(batch, steps) if lengths is None else lengths.value
    outputs, lasts = [], []
    for number in range(w.shape[0]):
        both = np.zeros((2, count, hidden)) if bias is None else bias.value[number].reshape(2, count, hidden)
        matrices = (m.value[number].reshape(count, hidden, -1) for m in (w, r))
        backward = number == 1 or attributes.get("direction") == "reverse"
        states = 2 if operator == "LSTM" else 1
        y, last = _run(_Direction(*matrices, *both), step, x.value, ends, states, backward)
        outputs.append(y)
        lasts.append(last)
    whole = _stacked(outputs, 1)
    return (whole, *(_stacked([last[i] for last in lasts], 0) for i in range(len(lasts[0]))))


def _stacked(parts: list[Bounded], axis: int) -> Bounded:
    return Bounded(np.stack([p.value for p in parts], axis), np.stack([p.error for p in parts], axis))


def _run(
    direction: _Direction, step: Step, x: Array, ends: Array, count: int, backward: bool
) -> tuple[Bounded, list[Bounded]]:
    """(T, B, H) of one direction, zero behind each row's end, and its last states."""
    steps, batch, _ = x.shape
    hidden = direction.r.shape[1]
    y = Bounded(np.zeros((steps, batch, hidden)), np.zeros((steps, batch, hidden)))
    last = [Bounded(np.zeros((batch, hidden)), np.zeros((batch, hidden))) for _ in range(count)]
    for row in range(batch):
        states = [Bounded(np.zeros((1, hidden)), np.zeros((1, hidden))) for _ in range(count)]
        times = list(range(int(ends[row])))
        for time in reversed(times) if backward else times:
            states = step(direction, x[time, row : row + 1], states)
            y.value[time, row], y.error[time, row] = states[0].value[0], states[0].error[0]
        for kept, state in zip(last, states, strict=True):
            kept.value[row], kept.error[row] = state.value[0], state.error[0]
    return y, last
