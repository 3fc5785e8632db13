"""Activations that the optimiser fuses into products and convolutions, by name and parameters."""

from __future__ import annotations

import onnx_ir as ir

from .expansion import Expansion, Refused

__all__ = ["activated"]

_PARAMETERS = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "Softplus": (), "Softsign": (), "HardSwish": (), "Erf": (),
    "LeakyRelu": ("alpha",), "Elu": ("alpha",), "ThresholdedRelu": ("alpha",), "Selu": ("alpha", "gamma"),
    "HardSigmoid": ("alpha", "beta"),
}  # fmt: skip


def activated(w: Expansion, value: ir.Value, like: ir.Value, name: str, parameters: list[float]) -> ir.Value:
    """The activation `name` of `value`, of the type of `like`; no name: `value` itself."""
    if not name:
        return value
    if name == "Clip":
        low, high = (
            w.number(p, like) for p in (parameters + [float("-inf"), float("inf")][len(parameters) :])[:2]
        )
        return w.op("Clip", value, low, high)
    if name not in _PARAMETERS:
        raise Refused(f"its activation {name} has no form in standard operators")
    given = dict(zip(_PARAMETERS[name], parameters, strict=False))
    return w.op(name, value, **given)
