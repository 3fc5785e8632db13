"""Scales move from a layer's outputs to the weights of those that read them: the function stays the same.

    y = W2 f(W1 x + b1)    =    (W2 S) f(S^-1 W1 x + S^-1 b1)      for f(s y) = s f(y), s > 0

With s_i = sqrt(r1_i / r2_i), where r1_i is the largest weight of output i of the first layer and r2_i that of
input i of the second, both become sqrt(r1_i r2_i): no channel wastes the grid that it shares with the others.

Source: Nagel et al., Data-Free Quantization (arXiv:1906.04721), section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..layer_bias import takes_bias
from ..layers import Layer

__all__ = ["Pair", "equalize", "pairs", "rescale"]

Floats = npt.NDArray[np.float64]
_HOMOGENEOUS = frozenset(
    ["Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity"]
)
_ROUNDS = 20
_ENOUGH = 1e-3  # relative change of scales at which rounds end
_BIAS = 2


@dataclass(frozen=True)
class Pair:
    """A layer, and all that read its outputs channel by channel through functions with f(s y) = s f(y)."""

    first: Layer
    readers: tuple[Layer, ...]


def equalize(model: ir.Model, layers: Sequence[Layer]) -> int:
    """Equalise `layers` in place until scales settle; returns how many pairs there are."""
    found = pairs(layers)
    for _ in range(_ROUNDS):
        moved = 0.0
        for pair in found:
            scale = _scales(pair)
            rescale(model, pair, scale)
            moved = max(moved, float(np.abs(np.log(scale)).max()))
        if moved < _ENOUGH:
            break
    return len(found)


def pairs(layers: Sequence[Layer]) -> list[Pair]:
    """Layers whose outputs nobody reads but other `layers`, all with weights of their own."""
    by_node = {layer.node: layer for layer in layers if len(layer.weight.uses()) == 1}
    found = []
    for layer in by_node.values():
        readers = _readers(layer, by_node)
        if readers and _scales_outputs(layer):
            found.append(Pair(layer, tuple(readers)))
    return found


def _scales_outputs(layer: Layer) -> bool:
    node = layer.node
    return node.op_type == "MatMul" or takes_bias(layer)


def _readers(layer: Layer, by_node: dict[ir.Node, Layer]) -> list[Layer]:
    """Empty where anything else reads the outputs."""
    waiting, found = [layer.node.outputs[0]], list[Layer]()
    for value in waiting:
        if value.is_graph_output() or not value.uses():
            return []
        for use in value.uses():
            reader = by_node.get(use.node)
            if reader is not None and use.idx == 0 and _same_channels(layer, reader):
                found.append(reader)
            elif use.node.op_type in _HOMOGENEOUS and not use.node.domain and len(use.node.outputs) == 1:
                waiting.append(use.node.outputs[0])
            else:
                return []
    return found


def _same_channels(layer: Layer, reader: Layer) -> bool:
    """Whether outputs of `layer` are, one by one, inputs of `reader`; both convolutions or both products."""
    kinds = [each.node.op_type == "Conv" for each in (layer, reader)]
    return kinds[0] == kinds[1] and len(_rows(layer)) == _columns(reader).shape[0]


def _rows(layer: Layer) -> Floats:
    tensor = layer.weight.const_value
    assert tensor is not None
    return np.asarray(layer.outputs_first(tensor.numpy()), np.float64)


def _columns(layer: Layer) -> Floats:
    """The weights of each input: [groups * I, O / groups, ...]."""
    rows, groups = _rows(layer), layer.groups
    split = rows.reshape(groups, len(rows) // groups, *rows.shape[1:])
    return np.swapaxes(split, 1, 2).reshape(groups * rows.shape[1], len(rows) // groups, -1)


def _largest(array: Floats) -> Floats:
    return np.asarray(np.abs(array.reshape(len(array), -1)).max(axis=1))


def _scales(pair: Pair) -> Floats:
    """What each output of the first layer is divided by; 1 for a channel that is nothing on either side."""
    first = _largest(_rows(pair.first))
    second = np.max([_largest(_columns(reader)) for reader in pair.readers], axis=0)
    dead = (first <= 0) | (second <= 0)
    return np.asarray(np.where(dead, 1.0, np.sqrt(np.where(dead, 1.0, first) / np.where(dead, 1.0, second))))


def rescale(model: ir.Model, pair: Pair, scale: Floats) -> None:
    """Divide outputs of the first layer by `scale`, multiply the weights that read them by it."""
    rows = _rows(pair.first)
    _replace(pair.first.weight, pair.first.outputs_first(_along(rows, 1 / scale)))
    node = pair.first.node
    bias = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
    if bias is not None:
        assert bias.const_value is not None
        _own(model, node, _BIAS, bias.const_value.numpy() / scale)
    for reader in pair.readers:
        scale_inputs(reader, scale)


def scale_inputs(layer: Layer, scale: Floats) -> None:
    """Multiply the weights that meet input i by `scale[i]`."""
    rows, groups = _rows(layer), layer.groups
    shape = (groups, 1, rows.shape[1], *[1] * (rows.ndim - 2))
    wide = rows.reshape(groups, -1, *rows.shape[1:]) * scale.reshape(shape)
    _replace(layer.weight, layer.outputs_first(wide.reshape(rows.shape)))


def _along(rows: Floats, scale: Floats) -> Floats:
    return np.asarray(rows * scale.reshape(-1, *[1] * (rows.ndim - 1)))


def _replace(value: ir.Value, array: npt.NDArray[np.floating]) -> None:
    value.const_value = ir.Tensor(np.ascontiguousarray(array, np.float32), name=value.name)


def _own(model: ir.Model, node: ir.Node, index: int, array: npt.NDArray[np.floating]) -> None:
    """Give `node` a constant input of its own; others keep the old one."""
    old = node.inputs[index]
    assert old is not None
    if len(old.uses()) == 1 and not old.is_graph_output():
        _replace(old, array)
        return
    from .inserting import add_initializer

    name = f"{node.name}.input{index}"
    node.replace_input_with(index, add_initializer(model.graph, name, np.asarray(array, np.float32)))
