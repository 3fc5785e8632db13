"""Where a positive scale for each channel can move from what computes a value to the weights that read it.

    y = W2 f(D x)    =    (W2 S) f(S^-1 D x)          for f(s y) = s f(y), s > 0

D is a layer and its bias, a layer norm's scale and bias, or a product with a constant. Between are functions
that treat channels alike: Relu, pooling, a product with something else. Where any other node reads the value,
nothing moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..layer_bias import takes_bias
from ..layers import Layer
from .inserting import add_initializer

__all__ = ["Site", "columns", "divide", "largest", "rows_of", "sites"]

Floats = npt.NDArray[np.float64]
_HOMOGENEOUS = frozenset(
    ["Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Mul"]
)
_BIAS = 2


@dataclass(frozen=True)
class Site:
    """`source` computes channels that `readers`, and nobody else, multiply by their weights.

    `parameters` are its inputs that have one value, or for a layer one row, for each channel.
    """

    source: ir.Node
    parameters: tuple[int, ...]
    layer: Layer | None
    readers: tuple[Layer, ...]


def sites(model: ir.Model, layers: Sequence[Layer], operators: Sequence[str]) -> list[Site]:
    """All places where a node of `operators` gives the channels of `layers`, in the order of the graph."""
    own = {layer.node: layer for layer in layers if len(layer.weight.uses()) == 1}
    found = []
    for node in model.graph:
        layer = own.get(node)
        parameters = _parameters(node, layer) if node.op_type in operators and not node.domain else ()
        readers = _readers(node, own) if parameters else []
        sizes = {len(columns(reader)) for reader in readers}
        if readers and sizes == {_channels(node, parameters, layer)}:
            found.append(Site(node, parameters, layer, tuple(readers)))
    return found


def divide(model: ir.Model, site: Site, scale: Floats) -> None:
    """Divide the channels of the source by `scale` [C] > 0, and multiply the weights that read them by it."""
    for index in site.parameters:
        value = site.source.inputs[index]
        assert value is not None
        assert value.const_value is not None
        array = value.const_value.numpy().astype(np.float64)
        if site.layer is not None and index == 1:
            rows = rows_of(site.layer)
            array = site.layer.outputs_first(rows / scale.reshape(-1, *[1] * (rows.ndim - 1)))
        else:
            array = array / scale
        _set_input(model, site.source, index, array)
    for reader in site.readers:
        rows, groups = rows_of(reader), reader.groups
        shape = (groups, 1, rows.shape[1], *[1] * (rows.ndim - 2))
        wide = rows.reshape(groups, -1, *rows.shape[1:]) * scale.reshape(shape)
        _set_input(model, reader.node, 1, reader.outputs_first(wide.reshape(rows.shape)))


def rows_of(layer: Layer) -> Floats:
    """The weight, outputs first."""
    tensor = layer.weight.const_value
    assert tensor is not None
    return np.asarray(layer.outputs_first(tensor.numpy()), np.float64)


def columns(layer: Layer) -> Floats:
    """The weights of each input: [groups * I, O / groups * taps]."""
    rows, groups = rows_of(layer), layer.groups
    split = rows.reshape(groups, len(rows) // groups, *rows.shape[1:])
    return np.swapaxes(split, 1, 2).reshape(groups * rows.shape[1], -1)


def largest(array: Floats) -> Floats:
    """The largest absolute value of each row."""
    return np.asarray(np.abs(array.reshape(len(array), -1)).max(axis=1))


def _parameters(node: ir.Node, layer: Layer | None) -> tuple[int, ...]:
    """Inputs to divide; none where the node's results cannot be scaled by them."""
    if layer is not None:
        bias = len(node.inputs) > _BIAS and node.inputs[_BIAS] is not None
        fits = node.op_type == "MatMul" or takes_bias(layer)
        return ((1, _BIAS) if bias else (1,)) if fits else ()
    if node.op_type == "LayerNormalization":
        axis, rank = node.attributes.get_int("axis", -1), len(node.outputs[0].shape or ())
        given = tuple(
            index for index in (1, 2) if index < len(node.inputs) and node.inputs[index] is not None
        )
        return given if axis in (-1, rank - 1) and all(_is_row(node, index) for index in given) else ()
    if node.op_type == "Mul":
        return next(((index,) for index in (0, 1) if _is_row(node, index)), ())
    return ()


def _is_row(node: ir.Node, index: int) -> bool:
    """Whether an input is a constant for each element of the last axis."""
    value, shape = node.inputs[index], node.outputs[0].shape
    if (
        value is None
        or value.const_value is None
        or value.is_graph_input()
        or value.shape is None
        or not shape
    ):
        return False
    return len(value.shape) == 1 and value.shape[0] == shape[-1] and value.dtype == ir.DataType.FLOAT


def _channels(node: ir.Node, parameters: tuple[int, ...], layer: Layer | None) -> int:
    if layer is not None:
        return len(rows_of(layer))
    value = node.inputs[parameters[0]]
    assert value is not None
    assert value.const_value is not None
    return int(value.const_value.size)


def _readers(source: ir.Node, own: Mapping[ir.Node, Layer]) -> list[Layer]:
    """Layers that read the channels of the source's output, empty where anything else reads them."""
    image = source.op_type == "Conv"
    waiting, found = [source.outputs[0]], list[Layer]()
    for value in waiting:
        if value.is_graph_output() or not value.uses():
            return []
        for use in value.uses():
            reader = own.get(use.node)
            if reader is not None and use.idx == 0 and (reader.node.op_type == "Conv") == image:
                found.append(reader)
            elif _passes_on(value, use.node, image):
                waiting.append(use.node.outputs[0])
            else:
                return []
    return found


def _passes_on(value: ir.Value, node: ir.Node, image: bool) -> bool:
    """Whether the node scales as `value` does, channel by channel."""
    result = node.outputs[0]
    if node.domain or len(node.outputs) != 1 or value.shape is None or result.shape is None:
        return False
    if node.op_type == "Reshape":  # of rows, whose elements stay
        return (
            len(value.shape) > 0
            and len(result.shape) > 0
            and value.shape[-1] == result.shape[-1]
            and len(value.shape) < 4
        )
    if node.op_type == "Mul":  # the other operand does not depend on this one, which nobody else reads
        return len(value.uses()) == 1 and _channels_of(value, image) == _channels_of(result, image)
    return node.op_type in _HOMOGENEOUS


def _channels_of(value: ir.Value, image: bool) -> tuple[int, object]:
    """Its rank, and how long the axis of its channels is."""
    assert value.shape is not None
    return len(value.shape), value.shape[1 if image else -1] if len(value.shape) > 1 else None


def _set_input(model: ir.Model, node: ir.Node, index: int, array: npt.NDArray[np.floating]) -> None:
    """Change a constant input of `node`; others that read it keep the old one."""
    old = node.inputs[index]
    assert old is not None
    narrow = np.ascontiguousarray(array, np.float32)
    if len(old.uses()) == 1 and not old.is_graph_output():
        old.const_value = ir.Tensor(narrow, name=old.name)
    else:
        node.replace_input_with(index, add_initializer(model.graph, f"{node.name}.scaled{index}", narrow))
