"""Layer norms in onnxruntime's forms: of a sum, of embeddings, by the root mean square."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..expansion import Expansion, Refused
from ..registry import EXPERIMENTAL, expands

Results = list[ir.Value | None]


@expands("LayerNormalization")
@expands("LayerNormalization", domain=EXPERIMENTAL)
def expand_layer_norm(w: Expansion) -> Results:
    """ONNX's operator has the same meaning since opset 17."""
    first = w.add("LayerNormalization", w.node.inputs, w.attributes(), outputs=len(w.node.outputs))
    node = first.producer()
    assert node is not None
    return list(node.outputs)


@expands("SimplifiedLayerNormalization")
@expands("SimplifiedLayerNormalization", domain=EXPERIMENTAL)
def expand_root_mean_square(w: Expansion) -> Results:
    """x / √(mean of x² + ε) · scale."""
    axis = w.node.attributes.get_int("axis", -1)
    x = w.needed(0)
    if axis not in (-1, w.rank(x) - 1):
        raise Refused("it normalises more than the last axis")
    result, inverse = _by_root_mean_square(w, x, w.needed(1))
    return [result, inverse]


@expands("SkipLayerNormalization")
def expand_skip(w: Expansion) -> Results:
    """LayerNormalization(input + skip + bias); that sum is the last output."""
    w.refuse_outputs(1, 2)
    total = w.sum(w.needed(0), w.needed(1), w.input(4))
    result = w.op("LayerNormalization", total, w.needed(2), w.input(3), epsilon=_epsilon(w, 1e-12))
    return [result, None, None, total]


@expands("SkipSimplifiedLayerNormalization")
def expand_skip_simplified(w: Expansion) -> Results:
    """The same by the root mean square."""
    w.refuse_outputs(1, 2)
    total = w.sum(w.needed(0), w.needed(1), w.input(3))
    result, _ = _by_root_mean_square(w, w.typed(total, w.needed(0)), w.needed(2))
    return [result, None, None, total]


@expands("EmbedLayerNormalization")
def expand_embedding(w: Expansion) -> Results:
    """LayerNormalization(word[ids] + position[…] + segment[…]), and the lengths of masked rows."""
    ids, positions = w.needed(0), w.input(8)
    word = w.op("Gather", w.needed(2), ids)
    if positions is None:
        length = w.number_of(ids, 1)
        position = w.op("Unsqueeze", w.sliced(w.needed(3), 0, 0, length), w.integers(0))
    else:
        position = w.op("Gather", w.needed(3), positions)
    segment = None if w.input(1) is None else w.op("Gather", w.needed(4), w.needed(1))
    total = w.sum(word, position, segment)
    result = w.op("LayerNormalization", total, w.needed(5), w.needed(6), epsilon=_epsilon(w, 1e-12))
    return [result, _mask_index(w, ids) if w.wanted(1) else None, total]


def _mask_index(w: Expansion, ids: ir.Value) -> ir.Value:
    """How many positions of each row count."""
    mask = w.input(7)
    if mask is None:
        zero = w.op(
            "Mul", w.op("Cast", ids, to=int(ir.DataType.INT32)), w.constant("zero", np.asarray(0, np.int32))
        )
        return w.op("ReduceMax", zero, w.integers(1), keepdims=0)
    ones = w.op("Cast", mask, to=int(ir.DataType.INT32))
    return w.op("ReduceSum", ones, w.integers(1), keepdims=0)


def _epsilon(w: Expansion, default: float) -> float:
    return w.node.attributes.get_float("epsilon", default)


def _by_root_mean_square(w: Expansion, x: ir.Value, scale: ir.Value) -> tuple[ir.Value, ir.Value]:
    """(result, 1 / root mean square)."""
    mean = w.op("ReduceMean", w.op("Mul", x, x), w.integers(-1), keepdims=1)
    root = w.op("Sqrt", w.op("Add", mean, w.number(_epsilon(w, 1e-5), x)))
    inverse = w.op("Reciprocal", root)
    return w.op("Mul", w.op("Mul", x, inverse), scale), inverse
