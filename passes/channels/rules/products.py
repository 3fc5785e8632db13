"""Convolutions and products of matrices: sums over inputs have no order, outputs keep that of the weight."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..axes import Axis, Ties, size_of
from ..registry import ties
from .elementwise import broadcast
from .operands import given, rank

__all__: list[str] = []


@ties("Conv")
def _conv(node: ir.Node, found: Ties) -> None:
    data, weight = given(node)[:2]
    groups = int(node.attributes.get_int("group", 1))
    result = (node.outputs[0], 1)
    found.same((data, 0), (node.outputs[0], 0))
    found.same(result, (weight, 0), *_bias(node))
    if groups == 1:
        found.same((weight, 1), (data, 1))
    elif size_of((weight, 1)) == 1 and size_of((data, 1)) == groups:
        _depthwise(found, (data, 1), result, (weight, 1))
    else:
        _grouped(found, weight, (data, 1), result, groups)


def _bias(node: ir.Node) -> list[Axis]:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return [(bias, 0)] if bias is not None else []


def _depthwise(found: Ties, data: Axis, result: Axis, single: Axis) -> None:
    """Each channel has a kernel of its own, or several."""
    found.free(single)
    channels, outputs = size_of(data), size_of(result)
    if channels and outputs and outputs % channels == 0:
        each = np.arange(outputs)
        if outputs == channels:
            found.same(data, result)
        else:
            _repeat(found, data, result, each // (outputs // channels), each % (outputs // channels))
    else:
        found.pin(data, "the channels of a depthwise convolution are not known")
        found.pin(result, "the channels of a depthwise convolution are not known")


def _repeat(found: Ties, data: Axis, result: Axis, channel: np.ndarray, kernel: np.ndarray) -> None:
    """Channel c gives several results; which of a channel's kernels one is stays."""
    found.merge(result, [data], [channel])
    found.mark(result, kernel)


def _grouped(found: Ties, weight: ir.Value, data: Axis, result: Axis, groups: int) -> None:
    """Channels stay in their group; the columns of the weight follow the inputs row by row."""
    inputs, outputs = size_of(data), size_of(result)
    alone = weight.is_initializer() and len(weight.uses()) == 1 and weight.const_value is not None
    if not (inputs and outputs and alone) or inputs % groups or outputs % groups:
        for axis in (data, result):
            found.pin(axis, f"a convolution in {groups} groups whose weights are not constant, or shared")
        return
    found.free(data)
    found.mark(data, np.arange(inputs) // (inputs // groups))
    found.mark(result, np.arange(outputs) // (outputs // groups))
    found.pin((weight, 1), "each row has an order of its own")
    found.group(weight, data, groups)


@ties("ConvTranspose")
def _conv_transpose(node: ir.Node, found: Ties) -> None:
    data, weight = given(node)[:2]
    groups = int(node.attributes.get_int("group", 1))
    result = (node.outputs[0], 1)
    if groups == 1:
        found.same((weight, 0), (data, 1))
        found.same(result, (weight, 1), *_bias(node))
    elif size_of((weight, 1)) == 1 and size_of(result) == groups:
        found.free((weight, 1))
        found.same(result, (weight, 0), (data, 1), *_bias(node))
    else:
        return
    found.same((data, 0), (node.outputs[0], 0))


@ties("Gemm")
def _gemm(node: ir.Node, found: Ties) -> None:
    a, b = given(node)[:2]
    over, by = (int(node.attributes.get_int(name, 0) != 0) for name in ("transA", "transB"))
    if rank(a) != 2 or rank(b) != 2:
        return
    found.same((a, 1 - over), (b, by))
    found.same((node.outputs[0], 0), (a, over))
    found.same((node.outputs[0], 1), (b, 1 - by))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        broadcast(found, [node.inputs[2]], node.outputs[0])


@ties("MatMul", repeatable=True)
def _matmul(node: ir.Node, found: Ties) -> None:
    a, b = given(node)[:2]
    if rank(a) < 2 or rank(b) < 2:
        return
    result = node.outputs[0]
    last = rank(result) - 1
    found.same((a, rank(a) - 1), (b, rank(b) - 2))
    found.same((result, last - 1), (a, rank(a) - 2))
    found.same((result, last), (b, rank(b) - 1))
    broadcast(found, [a, b], result, leave=2)


@ties("Einsum", repeatable=True)
def _einsum(node: ir.Node, found: Ties) -> None:
    left, arrow, right = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    values = given(node)
    fits = all(re.fullmatch("[A-Za-z]*", term) for term in (*terms, right)) and len(terms) == len(values)
    if not arrow or not fits:
        return
    _tie_letters(found, [*values, node.outputs[0]], [*terms, right])


def _tie_letters(found: Ties, values: Sequence[ir.Value], terms: Sequence[str]) -> None:
    if any(rank(value) != len(term) for value, term in zip(values, terms, strict=True)):
        return
    named = defaultdict[str, list[Axis]](list)
    for value, term in zip(values, terms, strict=True):
        for index, letter in enumerate(term):
            named[letter].append((value, index))
    for axes in named.values():
        found.same(*axes)


@ties("LSTM", "GRU", "RNN")
def _recurrent(node: ir.Node, found: Ties) -> None:
    data, weight = given(node)[:2]
    found.same((data, 2), (weight, 2))
