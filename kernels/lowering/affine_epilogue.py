"""Epilogues that add dequantised values, as a residual sum does: one weighted sum in units of the result.

    q = clamp(round((a - za) · sa / s + (b - zb) · sb / s + z))  =  clamp(round(a · sa / s + b · sb / s + c))

where a may itself be the rounded sum of a product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..cpu.epilogue import Accumulator
from ..cpu.integer_epilogue import Requantize
from ..cpu.lazy import Elementwise, Fill, Lazy, Leaf

__all__ = ["Affine", "affine"]

_BYTES = ("int8", "uint8")
Rounding = Callable[[Lazy], tuple[Requantize | None, Lazy]]


@dataclass(frozen=True)
class Affine:
    """The sum of `terms` (value, factor) and a constant; `unit` is what the accumulator is divided by."""

    terms: tuple[tuple[Lazy, float], ...]
    constant: float
    unit: float = 1.0

    def tree(self, scale: float, zero_point: int) -> Lazy:
        """The sum divided by `scale`, with the zero point added."""
        factors = tuple(factor / scale for _, factor in self.terms)
        options = (("constant", self.constant / scale + zero_point), ("factors", factors))
        return Elementwise("WeightedSum", tuple(term for term, _ in self.terms), "float32", options)

    def most(self, scale: float) -> float:
        """What all but the constant may come to, divided by `scale`, where every term is a byte's value."""
        return sum(256.0 * abs(factor) / scale for _, factor in self.terms) + abs(self.constant) / scale


def affine(tree: Lazy, rounding: Rounding) -> Affine | None:
    """The tree as a sum of bytes in memory and one rounded accumulator; None where it is something else.

    `rounding` takes a Quantize apart: its rounding, and what is rounded.
    """
    if not isinstance(tree, Elementwise):
        return None
    if tree.function == "Dequantize":
        return _dequantized(tree, rounding)
    if tree.function not in ("Add", "Sub", "Sum"):
        return None
    parts = [affine(part, rounding) for part in tree.args]
    known = [part for part in parts if part is not None]
    units = {part.unit for part in known if any(_has_sums(term) for term, _ in part.terms)}
    if len(known) < len(parts) or len(units) != 1:
        return None
    signs = [1.0, -1.0] if tree.function == "Sub" else [1.0] * len(known)
    terms = tuple((t, f * s) for part, s in zip(known, signs, strict=True) for t, f in part.terms)
    if sum(_has_sums(term) for term, _ in terms) != 1:
        return None
    constant = sum(part.constant * s for part, s in zip(known, signs, strict=True))
    return Affine(terms, constant, units.pop())


def _dequantized(tree: Elementwise, rounding: Rounding) -> Affine | None:
    inner, factor, other = tree.args[0], *tree.args[1:3]
    if not isinstance(factor, Fill) or not isinstance(other, Fill):
        return None
    scale, zero = float(factor.value), int(other.value)
    if isinstance(inner, Leaf) and inner.dtype in _BYTES:
        return Affine(((inner, scale),), -zero * scale)
    found, rest = rounding(inner)
    if found is None or not isinstance(rest, Accumulator):
        return None
    options = (("high", float(found.high - found.zero_point)), ("low", float(found.low - found.zero_point)))
    rounded = Elementwise("RoundedClip", (rest,), "float32", options)
    return Affine(((rounded, scale),), (found.zero_point - zero) * scale, 1.0 / found.inverse)


def _has_sums(term: Lazy) -> bool:
    return isinstance(term, Elementwise)
