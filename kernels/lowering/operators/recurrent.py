"""LSTM, GRU and RNN: all products of inputs in one matrix product, then one kernel with the loop of time."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ...cpu.recurrent_cells import Cell, GruCell, LstmCell, RnnCell
from ..attributes import flag
from ..recurrent_layer import RecurrentNode, lower_recurrent
from ..registry import lowers
from ..state import Lowering
from ..variants import is_wide


@lowers("RNN", takes=is_wide)
def lower_rnn(state: Lowering, node: ir.Node) -> None:
    """H = f(X W' + H R' + b)."""
    lower_recurrent(state, RecurrentNode(node, 1, ("Tanh",)), RnnCell, ())


@lowers("LSTM", takes=is_wide)
def lower_lstm(state: Lowering, node: ir.Node) -> None:
    """Gates i, o, f, c; peepholes, and the input gate coupled with the forget gate."""
    peepholes = len(node.inputs) > 7 and node.inputs[7] is not None
    coupled = flag(node, "input_forget")
    make: Callable[..., Cell] = lambda a, clip: LstmCell(a, clip, peepholes, coupled)  # noqa: E731
    lower_recurrent(state, RecurrentNode(node, 4, ("Sigmoid", "Tanh", "Tanh")), make, ("c",))


@lowers("GRU", takes=is_wide)
def lower_gru(state: Lowering, node: ir.Node) -> None:
    """Gates z, r, h; the reset gate is applied before or after the recurrent product."""
    before = flag(node, "linear_before_reset")
    make: Callable[..., Cell] = lambda a, clip: GruCell(a, clip, before)  # noqa: E731
    lower_recurrent(state, RecurrentNode(node, 3, ("Sigmoid", "Tanh")), make, ())
