"""Activations of LSTM, GRU and RNN: names, and which of alpha and beta each takes.

https://onnx.ai/onnx/operators/onnx__LSTM.html: values of `activation_alpha` and `activation_beta` are
consumed in the order of the activations, by those that take one; the rest have their operator's default.
"""

from __future__ import annotations

import onnx_ir as ir

from gossamer.runtime.errors import ModelError, nearest

from ..cpu.recurrent_cells import Activation
from .attributes import describe, require_equal

__all__ = ["activations_of"]

# alpha and beta by default, None where a function takes none
_FUNCTIONS: dict[str, tuple[float | None, float | None]] = {
    "Affine": (1.0, 0.0),
    "Elu": (1.0, None),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, None),
    "Relu": (None, None),
    "ScaledTanh": (1.0, 1.0),
    "Sigmoid": (None, None),
    "Softplus": (None, None),
    "Softsign": (None, None),
    "Tanh": (None, None),
    "ThresholdedRelu": (1.0, None),
}
_BY_LOWER = {name.lower(): name for name in _FUNCTIONS}


def activations_of(node: ir.Node, defaults: tuple[str, ...], directions: int) -> list[tuple[Activation, ...]]:
    """For each direction its functions, f, g and h as the operator has them. Raises ModelError."""
    given = node.attributes.get("activations")
    names = list(given.as_strings()) if given is not None else list(defaults) * directions
    require_equal(node, "numbers of activations", len(defaults) * directions, len(names))
    alphas, betas = _floats(node, "activation_alpha"), _floats(node, "activation_beta")
    functions = [_activation(node, name, alphas, betas) for name in names]
    count = len(defaults)
    return [tuple(functions[d * count : (d + 1) * count]) for d in range(directions)]


def _floats(node: ir.Node, name: str) -> list[float]:
    attribute = node.attributes.get(name)
    return [] if attribute is None else list(attribute.as_floats())


def _activation(node: ir.Node, name: str, alphas: list[float], betas: list[float]) -> Activation:
    """The function, with the next alpha and beta if it takes them."""
    known = _BY_LOWER.get(name.lower())
    if known is None:
        raise ModelError(
            "no such activation",
            where=describe(node),
            expected=", ".join(_FUNCTIONS),
            got=name,
            advice=nearest(name, tuple(_FUNCTIONS)),
        )
    alpha, beta = _FUNCTIONS[known]
    if alpha is not None and alphas:
        alpha = alphas.pop(0)
    if beta is not None and betas:
        beta = betas.pop(0)
    return Activation(known, 1.0 if alpha is None else alpha, 0.0 if beta is None else beta)
