"""Layers that read one weight are split together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from ..activations import Calibration
from ..base import node_label
from ..layers import Layer, weighted_layers
from .problem import Problem, Single
from .rewriting import bias_of

__all__ = ["Group", "group_layers", "make_problem", "multiply_adds", "pairs_of_rows", "problems"]


@dataclass(frozen=True)
class Group:
    """All layers that read a weight: float32, constant, each in the same orientation."""

    layers: tuple[Layer, ...]
    damping: float

    @property
    def label(self) -> str:
        """The first layer's name."""
        return node_label(self.layers[0].node)

    @property
    def weight(self) -> Single:
        """Outputs first."""
        tensor = self.layers[0].weight.const_value
        assert tensor is not None
        return np.asarray(self.layers[0].outputs_first(tensor.numpy()), np.float32)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Sizes of a convolution's window, () of a matrix product."""
        shape = self.layers[0].weight.shape
        assert shape is not None
        return tuple(int(size) for size in shape.numpy()[2:])

    @property
    def work(self) -> int:
        """Multiply-adds of the dense layers for one pixel or row."""
        tensor = self.layers[0].weight.const_value
        assert tensor is not None
        return int(tensor.size)

    @property
    def pixels(self) -> int:
        """Pixels or rows of all the layers; sizes that are not known count as 1."""
        return sum(_pixels(layer) for layer in self.layers)


def group_layers(layers: Sequence[Layer], damping: Mapping[ir.Node, float]) -> list[Group]:
    """`layers` by the weight they read, in the order of the first of each."""
    found = dict[ir.Value, list[Layer]]()
    for layer in layers:
        found.setdefault(layer.weight, []).append(layer)
    return [Group(tuple(readers), damping[readers[0].node]) for readers in found.values()]


def problems(
    model: ir.Model, groups: Sequence[Group], data: Calibration | None, limit: int
) -> Iterator[Problem]:
    """The problem of each group, one after the other, since rows are large."""
    rows = None if data is None else data.rows(model, [layer for g in groups for layer in g.layers], limit)
    for group in groups:
        seen = None if rows is None else [next(rows) for _ in group.layers]
        yield make_problem(group, seen)


def pairs_of_rows(
    data: Calibration, model: ir.Model, groups: Sequence[Group], limit: int
) -> Iterator[tuple[list[Single], list[Single]]]:
    """What the layers of each group read in `model` as it is by then, and in `model` as it is now.

    The caller changes a group's layers before it asks for the next group. Layers keep their names until
    then, so that both are rows of the same pixels.
    """
    source = model.clone()
    layers = {layer.node.name: layer for layer in weighted_layers(source)}
    names = [layer.node.name for group in groups for layer in group.layers]
    originals = data.rows(source, [layers[name] for name in names], limit)
    for group in groups:
        rows = [next(data.rows(model, [layer], limit)) for layer in group.layers]
        yield rows, [next(originals) for _ in group.layers]


def make_problem(
    group: Group, rows: Sequence[Single] | None, originals: Sequence[Single] | None = None
) -> Problem:
    """The problem of `group` with the rows that each of its layers reads."""
    node = group.layers[0].node
    strides = node.attributes.get_ints("strides", [1]) if node.op_type == "Conv" else [1]
    return Problem(
        group.weight,
        None if rows is None else np.concatenate(rows),
        None if originals is None else np.concatenate(originals),
        centred=len(group.layers) == 1 and bias_of(group.layers[0]) is not None,
        damping=group.damping,
        stride=int(strides[-1]),
    )


def multiply_adds(layers: Sequence[Layer]) -> int:
    """Of all `layers`, their weights dense."""
    total = 0
    for layer in layers:
        assert layer.weight.shape is not None
        total += _pixels(layer) * prod(layer.weight.shape.numpy())
    return total


def _pixels(layer: Layer) -> int:
    shape = layer.node.outputs[0].shape
    sizes = [] if shape is None else list(shape)
    counted = [*sizes[:1], *sizes[2:]] if layer.node.op_type == "Conv" else sizes[:-1]
    return prod(size for size in counted if isinstance(size, int))
