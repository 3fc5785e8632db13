"""Putting channels in another order: constants are permuted, and nothing is left to do at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .axes import GroupedWeight, Positions, Ties
from .classes import ChannelSet

__all__ = ["axis_orders", "permute_constants"]


def axis_orders(ties: Ties, orders: Sequence[tuple[ChannelSet, Positions]]) -> dict[int, Positions]:
    """For each axis that changes, by number: which old position each new one takes, int64 [size].

    An order says for each place of a set which of its channels comes there.
    """
    found = dict[int, Positions]()
    for channels, order in orders:
        for axis, positions in channels.positions.items():
            taken = found.setdefault(axis, np.arange(ties.sizes[axis]))
            taken[positions] = positions[order]
    return {axis: taken for axis, taken in found.items() if (taken != np.arange(len(taken))).any()}


def permute_constants(model: ir.Model, ties: Ties, orders: Mapping[int, Positions]) -> None:
    """Permute the initializers of the main graph in place by `orders`, as `axis_orders` gives them."""
    grouped = {one.weight: one for one in ties.grouped}
    for value in model.graph.initializers.values():
        tensor = value.const_value
        columns = orders.get(ties.root(grouped[value].inputs)) if value in grouped else None
        moved = _moved(value, ties, orders)
        if tensor is None or not (moved or columns is not None):
            continue
        array = tensor.numpy()
        if columns is not None:
            array = _follow_groups(array, grouped[value], columns)
        for axis, order in moved.items():
            array = array.take(order, axis)
        value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=value.name)


def _moved(value: ir.Value, ties: Ties, orders: Mapping[int, Positions]) -> dict[int, Positions]:
    """The axes of a value that change, and how."""
    roots = [ties.known((value, axis)) for axis in range(len(value.shape or ()))]
    return {axis: orders[root] for axis, root in enumerate(roots) if root is not None and root in orders}


def _follow_groups(array: np.ndarray, weight: GroupedWeight, order: Positions) -> np.ndarray:
    """Rows [O, I / groups, ...] with the columns of each in the order of the inputs of its group."""
    depth = array.shape[1]
    within = order.reshape(weight.groups, depth) - depth * np.arange(weight.groups)[:, None]
    columns = within.repeat(len(array) // weight.groups, axis=0)
    rows = np.arange(len(array))[:, None]
    found: np.ndarray = array[rows, columns]
    return found
