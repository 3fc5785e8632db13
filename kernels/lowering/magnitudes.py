"""How large values computed from integers can become."""

from __future__ import annotations

from math import inf

from ..cpu.lazy import Elementwise, Fill, Lazy
from ..quantization import integer_range

__all__ = ["largest"]

_SAME = ("Abs", "Neg", "Relu", "LeakyRelu", "HardSwish", "Swish", "Gelu", "Round", "Clip", "Identity")
_OF_ONE = {"Sigmoid": 1.0, "Tanh": 1.0, "Erf": 1.0, "HardSigmoid": 1.0, "Softsign": 1.0, "Sign": 1.0}


def largest(tree: Lazy) -> float:
    """A bound of the absolute value; infinite where none is known."""
    if isinstance(tree, Fill):
        return abs(float(tree.value))
    if not isinstance(tree, Elementwise):
        return float(max(map(abs, integer_range(tree.dtype)))) if tree.dtype in ("int8", "uint8") else inf
    name, parts = tree.function, [largest(part) for part in tree.args]
    if name in ("Add", "Sub", "Sum"):
        return sum(parts)
    if name in ("Max", "Min"):
        return max(parts)
    if name == "Mul":
        return parts[0] * parts[1]
    if name == "Dequantize":
        return (parts[0] + parts[2]) * parts[1] if len(parts) == 3 else parts[0] * parts[1]
    if name == "QuantizeDequantize":
        options = dict(tree.options)
        ends = (abs(options["low"] + options["shift"]), abs(options["high"] + options["shift"]))
        return float(max(ends) * options["scale"])
    if name in _SAME:
        slope = abs(dict(tree.options).get("alpha", 0.01)) if name == "LeakyRelu" else 1.0
        bounds = [abs(v) for k, v in tree.options if name == "Clip" and k in ("min", "max") and v is not None]
        return float(max(parts[0] * max(1.0, slope), *bounds, 0.0))
    return _OF_ONE.get(name, inf)
