"""Lowers a recurrent node: reads what it says, packs weights, and appends product and time loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gossamer.runtime.errors import ModelError, UnsupportedError

from ..cpu.epilogue import Accumulator
from ..cpu.lazy import Fill, Lazy, Leaf
from ..cpu.recurrent import Recurrent, RecurrentPlan
from ..cpu.recurrent_cells import Cell
from ..cpu.tensor import Tensor
from ..dims import fixed, is_fixed
from .attributes import describe, integer, number, require_equal, text
from .choice import Choice
from .fusion import Epilogue
from .recurrent_activations import activations_of
from .recurrent_packing import (
    gate_columns,
    input_columns,
    moved_columns,
    moved_gates,
    moved_panels,
    moved_rows,
    recurrent_panels,
    unit_rows,
)
from .recurrent_products import any_rows, row_products
from .report import report_layer
from .row_products import in_rows
from .state import Lowering

__all__ = ["RecurrentNode", "lower_recurrent"]

_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
MakeCell = Callable[..., Cell]


@dataclass(frozen=True)
class RecurrentNode:
    """A node with `gates` gates; `defaults` are its activations where none are given.

    Inputs: X, W, R, B, sequence_lens, initial_h, and of an LSTM initial_c and P.
    """

    node: ir.Node
    gates: int
    defaults: tuple[str, ...]

    def given(self, position: int) -> ir.Value | None:
        """An input, None where it is left out."""
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    @property
    def reversed_(self) -> tuple[bool, ...]:
        """For each direction, whether it starts at the end."""
        direction = text(self.node, "direction", "forward").lower()
        if direction not in _DIRECTIONS:
            raise ModelError(
                "no such direction", where=describe(self.node), expected=", ".join(_DIRECTIONS), got=direction
            )
        return _DIRECTIONS[direction]

    @property
    def batch_first(self) -> bool:
        """Whether the batch is the first axis of inputs and outputs."""
        return integer(self.node, "layout", 0) == 1

    def wanted(self, position: int) -> bool:
        """Whether somebody reads an output."""
        if position >= len(self.node.outputs):
            return False
        value = self.node.outputs[position]
        return bool(value.name) and (bool(value.uses()) or value.is_graph_output())


@dataclass(frozen=True)
class _Sizes:
    steps: int
    batch: int
    inputs: int
    hidden: int
    directions: int


def lower_recurrent(
    state: Lowering, given: RecurrentNode, make_cell: MakeCell, states: Sequence[str]
) -> None:
    """`states` are those that the node takes and gives beside h, in the order of its inputs."""
    node = given.node
    sizes = _sizes(state, given)
    clip = number(node, "clip", 0.0)
    cells = tuple(make_cell(a, clip) for a in activations_of(node, given.defaults, sizes.directions))
    plan = RecurrentPlan.of(state.isa, cells[0], sizes.batch, sizes.hidden)
    recurrent = _required(given, 2)
    if state.constant(recurrent) is None:
        plan = RecurrentPlan(plan.rows, (1,) * len(plan.units))
    bias, parameters = _biases(state, given, cells[0], sizes)
    products = _products(state, given, sizes, bias)
    kernel = Recurrent(
        cells=cells,
        reversed_=given.reversed_,
        plan=plan,
        hidden=sizes.hidden,
        products=products,
        weights=_recurrent_weights(state, given, cells[0], plan),
        parameters=parameters,
        lengths=_lengths(state, given, sizes),
        initial=_initial(state, given, sizes, ("h", *states)),
        y=_sequence(state, given, sizes),
        last=_last(state, given, sizes, ("h", *states)),
        states=_states(state, cells[0], sizes),
    )
    if is_fixed(sizes.steps, sizes.batch):
        own = sizes.directions * sizes.hidden * sizes.hidden * given.gates
        kernel.macs = own * sizes.steps * sizes.batch
    state.steps.append(kernel)
    _define(state, given, sizes, kernel, ("h", *states))


def _required(given: RecurrentNode, position: int) -> ir.Value:
    value = given.given(position)
    if value is None:
        raise ModelError("an input is missing", where=describe(given.node), expected=f"input {position}")
    return value


def _sizes(state: Lowering, given: RecurrentNode) -> _Sizes:
    """Sizes of the node, which its inputs must agree on."""
    node = given.node
    source, weights, recurrent = (state.lazy(_required(given, i)) for i in range(3))
    for value, rank in ((source, 3), (weights, 3), (recurrent, 3)):
        require_equal(node, "ranks", rank, len(value.shape))
        if value.dtype != "float32":
            raise UnsupportedError("only float32", where=describe(node), got=value.dtype)
    steps, batch, inputs = source.shape
    if given.batch_first:
        steps, batch = batch, steps
    directions = len(given.reversed_)
    inputs, hidden = (fixed(n, describe(node)) for n in (inputs, recurrent.shape[2]))
    if not hidden or not inputs or 0 in (steps, batch):
        raise UnsupportedError("empty at this input size", where=describe(node), got=list(source.shape))
    require_equal(node, "hidden sizes", integer(node, "hidden_size", hidden), hidden)
    require_equal(node, "shapes of W", (directions, given.gates * hidden, inputs), weights.shape)
    require_equal(node, "shapes of R", (directions, given.gates * hidden, hidden), recurrent.shape)
    return _Sizes(steps, batch, inputs, hidden, directions)


# ---- products of the inputs ---------------------------------------------------------------------
def _products(state: Lowering, given: RecurrentNode, sizes: _Sizes, bias: Tensor | None) -> Tensor:
    """(T, B, D · V · gates · lanes), of all steps at once, by the kernels of matrix products."""
    node, weights = given.node, _required(given, 1)
    source = state.dense(state.lazy(_required(given, 0)), "recurrent_in")
    rows = sizes.steps * sizes.batch
    left = source.view((rows, sizes.inputs), (sizes.inputs, 1))
    array = state.constant(weights)
    if array is None:
        moved = moved_columns(state, state.lazy(weights), given.gates)
        out = row_products(state, left, moved, bias)
    elif is_fixed(rows):
        columns = input_columns(array, given.gates, state.isa.lanes)
        shape = (rows, columns.shape[1])
        plain = Choice("gemm", 0, "", "products of all inputs")
        epilogue = Epilogue(Accumulator(shape), node.outputs[0])
        out, choice = in_rows(state, node, left, columns, bias, shape, plain, epilogue)
        report_layer(state, node, columns, out, choice, None)
    else:
        out = any_rows(state, node, left, input_columns(array, given.gates, state.isa.lanes), bias)
    first, second = (sizes.batch, 1) if not given.batch_first else (1, sizes.steps)
    pitch = out.shape[1]
    return out.view((sizes.steps, sizes.batch, pitch), (first * pitch, second * pitch, 1))


# ---- weights ------------------------------------------------------------------------------------
def _recurrent_weights(
    state: Lowering, given: RecurrentNode, cell: Cell, plan: RecurrentPlan
) -> tuple[Tensor, ...]:
    """Panels of R for each phase."""
    value = _required(given, 2)
    array, found = state.constant(value), []
    for phase, units in zip(cell.phases, plan.units, strict=True):
        if array is None:
            found.append(moved_panels(state, state.lazy(value), phase.first, phase.gates))
            continue
        hidden = array.shape[2]
        part = array[:, phase.first * hidden : (phase.first + phase.gates) * hidden]
        packed = recurrent_panels(part, phase.gates, state.isa.lanes, units)
        name = f"{given.node.name}.recurrent{phase.first or ''}"
        found.append(state.pool.add(name, packed, f"panels of {units} units"))
    return tuple(found)


def _biases(
    state: Lowering, given: RecurrentNode, cell: Cell, sizes: _Sizes
) -> tuple[Tensor | None, Tensor | None]:
    """(row added to the products, parameters of the cell)."""
    value, apart = given.given(3), cell.phases[0].apart
    gates, hidden = given.gates, sizes.hidden
    peepholes = _peepholes(state, given, sizes)
    if value is None:
        zeros = np.zeros((sizes.directions, 1, hidden), np.float32)
        rows = unit_rows(zeros, state.isa.lanes)
        return None, state.pool.add("recurrent.zero", rows) if apart >= 0 else peepholes
    require_equal(given.node, "shapes of B", (sizes.directions, 2 * gates * hidden), state.lazy(value).shape)
    array, lanes = state.constant(value), state.isa.lanes
    if array is not None:
        both = array.reshape(sizes.directions, 2, gates, hidden)
        recurrent = both[:, 1].copy()
        recurrent[:, apart if apart >= 0 else gates :] = 0
        bias = gate_columns((both[:, 0] + recurrent).reshape(sizes.directions, -1), gates, lanes)
        row = state.pool.add(f"{given.node.name}.bias", bias.reshape(-1))
        if apart < 0:
            return row, peepholes
        return row, state.pool.add(f"{given.node.name}.bias_h", unit_rows(both[:, 1, apart:], lanes))
    return _moved_bias(state, state.lazy(value), given, sizes, apart, peepholes)


def _moved_bias(
    state: Lowering, bias: Lazy, given: RecurrentNode, sizes: _Sizes, apart: int, peepholes: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The same of a bias that is known only at run time."""
    gates, hidden = given.gates, sizes.hidden
    own, recurrent = (Leaf(moved_gates(state, bias, hidden, first, gates)) for first in (0, gates))
    kept: Lazy = recurrent
    if apart >= 0:
        mask = np.ones((gates, 1), np.float32)
        mask[apart:] = 0
        kept = state.elementwise("Mul", [recurrent, Leaf(state.pool.add("recurrent.mask", mask))], "float32")
    row = state.dense(state.elementwise("Add", [own, kept], "float32"), "recurrent_bias")
    flat = row.view((row.size,), (1,))
    return flat, peepholes if apart < 0 else moved_rows(state, bias, hidden, gates + apart, 1)


def _peepholes(state: Lowering, given: RecurrentNode, sizes: _Sizes) -> Tensor | None:
    """(D, 3, V · lanes) of an LSTM."""
    value = given.given(7)
    if value is None:
        return None
    require_equal(given.node, "shapes of P", (sizes.directions, 3 * sizes.hidden), state.lazy(value).shape)
    array = state.constant(value)
    if array is None:
        return moved_rows(state, state.lazy(value), sizes.hidden, 0, 3)
    rows = unit_rows(array.reshape(sizes.directions, 3, sizes.hidden), state.isa.lanes)
    return state.pool.add(f"{given.node.name}.peepholes", rows)


# ---- states and results -------------------------------------------------------------------------
def _lengths(state: Lowering, given: RecurrentNode, sizes: _Sizes) -> Tensor | None:
    """Steps of each row, None where all take all."""
    value = given.given(4)
    if value is None:
        return None
    array, source = state.constant(value), state.lazy(value)
    require_equal(given.node, "ranks of sequence_lens", 1, len(source.shape))
    state.sizes.equal(source.shape[0], sizes.batch, f"sequence_lens of {describe(given.node)}")
    if array is not None and is_fixed(sizes.steps) and (array == sizes.steps).all():
        return None
    if source.dtype != "int32":
        raise ModelError(
            "sequence_lens has a wrong type", where=describe(given.node), expected="int32", got=source.dtype
        )
    return state.stored(value)


def _initial(state: Lowering, given: RecurrentNode, sizes: _Sizes, names: Sequence[str]) -> dict[str, Tensor]:
    """States before the first step, as (D, B, H); those left out are zero."""
    found = {}
    for position, name in enumerate(names, 5):
        value = given.given(position)
        if value is None:
            continue
        source = state.lazy(value)
        shape = (sizes.directions, sizes.batch, sizes.hidden)
        first, second, third = shape
        expected = (second, first, third) if given.batch_first else shape
        require_equal(given.node, f"ranks of initial_{name}", 3, len(source.shape))
        for wanted, got in zip(expected, source.shape, strict=True):
            state.sizes.equal(got, wanted, f"initial_{name} of {describe(given.node)}")
        if isinstance(source, Fill) and source.value == 0:
            continue
        found[name] = _directions_first(state.stored(value), given)
    return found


def _directions_first(tensor: Tensor, given: RecurrentNode) -> Tensor:
    """(D, B, H) of a state, which a layout with the batch first has as (B, D, H)."""
    if not given.batch_first:
        return tensor
    order = (1, 0, 2)
    return tensor.view(tuple(tensor.shape[a] for a in order), tuple(tensor.strides[a] for a in order))


def _states(state: Lowering, cell: Cell, sizes: _Sizes) -> dict[str, Tensor]:
    """Where states lie while the kernel runs; two planes of h, since a step reads all of the last one."""
    pitch = -(-sizes.hidden // state.isa.lanes) * state.isa.lanes
    shape = (sizes.directions, sizes.batch, pitch)
    found = {"h": state.new_tensor("h", "float32", (2, *shape))}
    return found | {name: state.new_tensor(name, "float32", shape) for name in cell.states}


def _sequence(state: Lowering, given: RecurrentNode, sizes: _Sizes) -> Tensor | None:
    """Y, all steps of h, as (T, D, B, H), if somebody reads it."""
    steps, batch, hidden, directions = sizes.steps, sizes.batch, sizes.hidden, sizes.directions
    if not given.wanted(0):
        return None
    if not given.batch_first:
        return state.new_tensor("y", "float32", (steps, directions, batch, hidden))
    whole = state.new_tensor("y", "float32", (batch, steps, directions, hidden))
    row, step, direction, unit = whole.strides
    return whole.view((steps, directions, batch, hidden), (step, direction, row, unit))


def _last(state: Lowering, given: RecurrentNode, sizes: _Sizes, names: Sequence[str]) -> dict[str, Tensor]:
    """Last states that somebody reads, as (D, B, H)."""
    found = {}
    for position, name in enumerate(names, 1):
        if given.wanted(position):
            shape = (sizes.directions, sizes.batch, sizes.hidden)
            if given.batch_first:
                shape = (shape[1], shape[0], shape[2])
            found[name] = _directions_first(state.new_tensor(f"last_{name}", "float32", shape), given)
    return found


def _define(
    state: Lowering, given: RecurrentNode, sizes: _Sizes, kernel: Recurrent, names: Sequence[str]
) -> None:
    """States what the node's outputs are."""
    outputs = given.node.outputs
    if kernel.y is not None:
        state.define(outputs[0], Leaf(kernel.y.root if given.batch_first else kernel.y))
    for position, name in enumerate(names, 1):
        if name in kernel.last:
            tensor = kernel.last[name]
            state.define(outputs[position], Leaf(tensor.root if given.batch_first else tensor))
