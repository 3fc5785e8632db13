"""Sums that the optimiser fuses with what stands before or behind them."""

from __future__ import annotations

import onnx_ir as ir

from ..expansion import Expansion, Refused
from ..registry import expands


@expands("BiasAdd")
def expand_bias_add(w: Expansion) -> ir.Value:
    """X + bias + skip."""
    return w.sum(w.needed(0), w.needed(1), w.needed(2))


@expands("BiasDropout")
def expand_bias_dropout(w: Expansion) -> ir.Value:
    """data + bias + residual: nothing is dropped at inference."""
    w.refuse_outputs(1)
    return w.sum(w.needed(0), w.needed(1), w.input(2))


@expands("BiasSoftmax")
def expand_bias_softmax(w: Expansion) -> ir.Value:
    """Softmax(data + bias) over all axes from `axis` on, which must be the last one here."""
    data = w.needed(0)
    rank = w.rank(data)
    axis = w.node.attributes.get_int("axis", 1)
    if axis % rank != rank - 1:
        raise Refused("its softmax runs over more than the last axis")
    if w.rank(w.needed(1)) != rank:
        raise Refused("its bias has another rank than its data")
    return w.op("Softmax", w.sum(data, w.needed(1)), axis=-1)
