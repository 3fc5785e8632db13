"""Weights of LSTM, GRU and RNN as their kernels read them; constants as arrays, others as moved elements.

A vector of hidden units lies with its gates side by side: [vector, gate, lane]. H is padded to whole vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from tvm import tirx as tir

from ..cpu.arithmetic import minimum
from ..cpu.builder import constant, int32
from ..cpu.lazy import Lazy
from ..cpu.register_tile import tile_runs
from ..cpu.tensor import Tensor, contiguous
from .state import Lowering

__all__ = [
    "gate_columns",
    "input_columns",
    "moved_columns",
    "moved_gates",
    "moved_panels",
    "moved_rows",
    "recurrent_panels",
    "unit_rows",
]


def _by_vector(array: np.ndarray, gates: int, lanes: int) -> np.ndarray:
    """(D, gates · H, …) → (D, V, gates, lanes, …)."""
    directions, rows, *rest = array.shape
    hidden = rows // gates
    vectors = -(-hidden // lanes)
    padded = np.zeros((directions, gates, vectors * lanes, *rest), np.float32)
    padded[:, :, :hidden] = array.reshape(directions, gates, hidden, *rest)
    return np.moveaxis(padded.reshape(directions, gates, vectors, lanes, *rest), 1, 2)


def input_columns(weights: np.ndarray, gates: int, lanes: int) -> np.ndarray:
    """W (D, gates · H, I) → (I, D · V · gates · lanes), the right side of the product with the inputs."""
    ordered = _by_vector(weights, gates, lanes)
    return np.ascontiguousarray(ordered.reshape(-1, weights.shape[-1]).T)


def gate_columns(bias: np.ndarray, gates: int, lanes: int) -> np.ndarray:
    """(D, gates · H) → (D, V, gates, lanes), padded with zeros."""
    return _by_vector(bias, gates, lanes)


def unit_rows(rows: np.ndarray, lanes: int) -> np.ndarray:
    """(D, n, H) → (D, n, V · lanes), padded with zeros."""
    directions, count, hidden = rows.shape
    padded = np.zeros((directions, count, -(-hidden // lanes) * lanes), np.float32)
    padded[:, :, :hidden] = rows
    return padded


def recurrent_panels(weights: np.ndarray, gates: int, lanes: int, units: int) -> np.ndarray:
    """R (D, gates · H, H) → for each direction panels (H, units, gates, lanes), flat."""
    ordered = np.moveaxis(_by_vector(weights, gates, lanes), -1, 2)  # (D, V, H, gates, lanes)
    panels = [
        np.moveaxis(direction[start : start + width], 0, 1).ravel()
        for direction in ordered
        for first, width, count in tile_runs(ordered.shape[1], units)
        for start in range(first, first + count * width, width)
    ]
    return np.concatenate(panels)


Place = Callable[[list[Any]], tuple[Any, Callable[[Any], list[Any]]]]
"""From an index of the result: the hidden unit, and a unit's index in the source."""


def _by_units(
    state: Lowering, source: Lazy, shape: tuple[int, ...], hidden: int, label: str, place: Place
) -> Tensor:
    """Elements of `source` where the hidden unit exists, else 0, computed when the model runs."""

    def pick(sources: tuple[Lazy, ...], scope: Any, index: list[Any]) -> Any:
        unit, where = place(index)
        if hidden % state.isa.lanes == 0:
            return sources[0].at(scope, where(unit))
        value = sources[0].at(scope, where(minimum(unit, int32(hidden - 1))))
        return tir.Select(unit < hidden, value, constant(0.0, "float32"))

    ragged = hidden % state.isa.lanes != 0
    moved = state.moved([source], shape, pick, label, hidden, state.isa.lanes, conditional=ragged)
    return state.tensor(moved, label)


def moved_columns(state: Lowering, weights: Lazy, gates: int) -> Tensor:
    """`input_columns` of weights that are known only at run time."""
    directions, rows, depth = weights.shape
    hidden, lanes = rows // gates, state.isa.lanes
    shape = (depth, directions, -(-hidden // lanes), gates, lanes)

    def place(index: list[Any]) -> tuple[Any, Callable[[Any], list[Any]]]:
        k, d, vector, gate, lane = index
        return vector * lanes + lane, lambda unit: [d, gate * hidden + unit, k]

    tensor = _by_units(state, weights, shape, hidden, "input_columns", place)
    flat = (depth, prod(shape[1:]))
    return tensor.view(flat, contiguous(flat))


def moved_panels(state: Lowering, weights: Lazy, first: int, gates: int) -> Tensor:
    """`recurrent_panels`, of one vector of units each, of `gates` gates from the `first`."""
    directions, _, hidden = weights.shape
    lanes = state.isa.lanes
    shape = (directions, -(-hidden // lanes), hidden, gates, lanes)

    def place(index: list[Any]) -> tuple[Any, Callable[[Any], list[Any]]]:
        d, vector, k, gate, lane = index
        return vector * lanes + lane, lambda unit: [d, (gate + first) * hidden + unit, k]

    return _by_units(state, weights, shape, hidden, f"panels_{first}", place)


def moved_gates(state: Lowering, bias: Lazy, hidden: int, first: int, gates: int) -> Tensor:
    """(D, V, gates, lanes) of `gates` · H neighbouring columns of (D, …), from gate `first`."""
    lanes = state.isa.lanes
    shape = (bias.shape[0], -(-hidden // lanes), gates, lanes)

    def place(index: list[Any]) -> tuple[Any, Callable[[Any], list[Any]]]:
        d, vector, gate, lane = index
        return vector * lanes + lane, lambda unit: [d, (gate + first) * hidden + unit]

    return _by_units(state, bias, shape, hidden, f"gates_{first}", place)


def moved_rows(state: Lowering, rows: Lazy, hidden: int, first: int, count: int) -> Tensor:
    """`unit_rows` of `count` · H neighbouring columns of (D, …), from row `first`."""
    lanes = state.isa.lanes
    shape = (rows.shape[0], count, -(-hidden // lanes), lanes)

    def place(index: list[Any]) -> tuple[Any, Callable[[Any], list[Any]]]:
        d, row, vector, lane = index
        return vector * lanes + lane, lambda unit: [d, (row + first) * hidden + unit]

    tensor = _by_units(state, rows, shape, hidden, f"rows_{first}", place)
    flat = (rows.shape[0], count, prod(shape[2:]))
    return tensor.view(flat, contiguous(flat))
