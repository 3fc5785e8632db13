"""An elementwise node as function, inputs and options: used for fused kernels and epilogues alike."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ..cpu.arithmetic import FUNCTIONS
from .attributes import describe, flag, integer, number, text
from .state import Lowering, dtype_name

__all__ = ["describe_cast", "describe_elementwise", "is_elementwise"]

_NUMBERS = {
    "Celu": {"alpha": 1.0},
    "Elu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "LeakyRelu": {"alpha": 0.01},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "Shrink": {"bias": 0.0, "lambd": 0.5},
    "Swish": {"alpha": 1.0},
    "ThresholdedRelu": {"alpha": 1.0},
}

Described = tuple[str, list[ir.Value], str, dict[str, Any]]


def is_elementwise(node: ir.Node) -> bool:
    """Whether the operator is one of `kernels/cpu/arithmetic.py`."""
    return node.domain in ("", "ai.onnx") and node.op_type in FUNCTIONS


def describe_elementwise(state: Lowering, node: ir.Node) -> Described:
    """(function, non-constant inputs, dtype of the result, options)."""
    name = node.op_type
    dtype = dtype_name(node.outputs[0], name)
    inputs = [v for v in node.inputs if v is not None]
    if name == "Cast":
        return describe_cast(node)
    if name == "Clip":
        return _clip(state, node, dtype)
    if name == "Pow":
        exponent = state.constant(node.inputs[1])
        if exponent is not None and exponent.size == 1 and exponent.ndim <= len(inputs[0].shape or ()):
            return name, inputs[:1], dtype, {"exponent": float(exponent.reshape(-1)[0])}
    if name == "Gelu":
        return name, inputs, dtype, {"approximate": text(node, "approximate", "none")}
    if name == "BitShift":
        return name, inputs, dtype, {"direction": text(node, "direction", "LEFT")}
    if name == "IsInf":
        signs = ("detect_negative", "detect_positive")
        return name, inputs, dtype, {k: integer(node, k, 1) for k in signs}
    if name == "Mod":
        return name, inputs, dtype, {"fmod": integer(node, "fmod", 0)}
    options = {k: number(node, k, d) for k, d in _NUMBERS.get(name, {}).items()}
    return name, inputs, dtype, options


def describe_cast(node: ir.Node) -> Described:
    """A Cast, to whatever type its result has."""
    value = node.inputs[0]
    assert value is not None
    options = {"saturate": flag(node, "saturate", True), "rounding": text(node, "round_mode", "up")}
    return "Cast", [value], dtype_name(node.outputs[0], describe(node)), options


def _clip(state: Lowering, node: ir.Node, dtype: str) -> Described:
    bounds: dict[str, Any] = {}
    for position, name in ((1, "min"), (2, "max")):
        value = node.inputs[position] if len(node.inputs) > position else None
        if value is not None:
            array = state.constant(value)
            if array is None:
                from gossamer.runtime.errors import UnsupportedError

                raise UnsupportedError(
                    "bounds must be constant", where=f"Clip node {node.name!r}", got=value.name
                )
            bounds[name] = array.reshape(-1)[0].item()
        elif name in node.attributes:
            bounds[name] = number(node, name, 0.0)
    values = [v for v in node.inputs[:1] if v is not None]
    return "Clip", values, dtype, bounds
