"""Exact floating-point numbers made of sizes: what exporters compute between Cast(Shape) and Cast(int)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..dims import Size, is_fixed

__all__ = ["Ratio", "floored", "ratio_of"]

_MOST = 1 << 12  # of a denominator: size / 2^k is exact in float32 then, for sizes of any use


@dataclass(frozen=True)
class Ratio:
    """numerator / denominator; the denominator is a power of two."""

    numerator: Size
    denominator: int = 1

    def __add__(self, other: Ratio) -> Ratio:
        top = self.numerator * other.denominator + other.numerator * self.denominator
        return _reduced(top, self.denominator * other.denominator)

    def __sub__(self, other: Ratio) -> Ratio:
        return self + Ratio(-1 * other.numerator, other.denominator)

    def __mul__(self, other: Ratio) -> Ratio:
        return _reduced(self.numerator * other.numerator, self.denominator * other.denominator)

    def __truediv__(self, other: Ratio) -> Ratio:
        """Raises ArithmeticError where that is not exact."""
        if other.numerator == 0 or not is_fixed(other.numerator):
            whole, rest = divmod(self.numerator * other.denominator, other.numerator * self.denominator)
            if other.numerator == 0 or rest != 0:
                raise ArithmeticError("not exact")
            return Ratio(whole)
        inverse = Fraction(other.denominator, int(other.numerator))
        return self * Ratio(inverse.numerator, inverse.denominator)


def _reduced(top: Size, bottom: int) -> Ratio:
    while bottom % 2 == 0 and top % 2 == 0:
        top, bottom = top // 2, bottom // 2
    if bottom & (bottom - 1) or bottom > _MOST:
        raise ArithmeticError("not exact in binary")
    return Ratio(top, bottom)


def ratio_of(value: float | int | Size) -> Ratio:
    """The exact number; raises ArithmeticError, OverflowError or ValueError where there is none."""
    if isinstance(value, float):
        exact = Fraction(value)
        return _reduced(exact.numerator, exact.denominator)
    return Ratio(value)


def floored(value: Ratio, *, up: bool = False) -> Size:
    """The next whole number below, or above."""
    below: Size = (-1 * value.numerator if up else value.numerator) // value.denominator
    return -1 * below if up else below
