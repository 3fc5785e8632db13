"""GELU in its forms, with what the optimiser fuses before it."""

from __future__ import annotations

import onnx_ir as ir

from ..expansion import Expansion
from ..registry import expands


@expands("Gelu")
def expand_gelu(w: Expansion) -> ir.Value:
    """x Φ(x)."""
    return w.op("Gelu", w.needed(0))


@expands("FastGelu")
def expand_fast_gelu(w: Expansion) -> ir.Value:
    """The tanh approximation of GELU(x + bias)."""
    return w.op("Gelu", w.sum(w.needed(0), w.input(1)), approximate="tanh")


@expands("GemmFastGelu")
def expand_gemm_fast_gelu(w: Expansion) -> ir.Value:
    """FastGelu(X W + bias)."""
    return w.op("Gelu", w.sum(w.op("MatMul", w.needed(0), w.needed(1)), w.input(2)), approximate="tanh")


@expands("BiasGelu")
def expand_bias_gelu(w: Expansion) -> ir.Value:
    """GELU(x + bias)."""
    return w.op("Gelu", w.sum(w.needed(0), w.needed(1)))


@expands("BiasSplitGelu")
def expand_bias_split_gelu(w: Expansion) -> ir.Value:
    """The first half of (x + bias) times the GELU of the second."""
    total = w.sum(w.needed(0), w.needed(1))
    channels = w.number_of(w.needed(0), -1)
    left, right = w.sliced(total, -1, 0, channels // 2), w.sliced(total, -1, channels // 2, channels)
    return w.op("Mul", left, w.op("Gelu", right))


@expands("QuickGelu")
def expand_quick_gelu(w: Expansion) -> ir.Value:
    """x σ(α x)."""
    x = w.needed(0)
    alpha = w.node.attributes.get_float("alpha", 1.702)
    scaled = x if alpha == 1.0 else w.op("Mul", x, w.number(alpha, x))
    return w.op("Mul", x, w.op("Sigmoid", scaled))
