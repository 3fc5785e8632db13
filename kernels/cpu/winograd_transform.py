"""Winograd's transforms for 3 × 3 windows: F(2 × 2) and F(4 × 4).

A tile of m × m outputs is `Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` of its 3 × 3 weights g and (m + 2) × (m + 2) inputs d
(Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015). Each function here is one matrix
times a column, with the terms that its rows share computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .builder import Builder, constant, lanes_of

__all__ = ["TRANSFORMS", "Transform", "twice"]


class _Arithmetic:
    """Sums and multiply-adds by constants, each held in a register."""

    def __init__(self, b: Builder) -> None:
        self.b = b

    def add(self, x: Any, y: Any) -> Any:
        return self.b.hold(x + y)

    def sub(self, x: Any, y: Any) -> Any:
        return self.b.hold(x - y)

    def scale(self, factor: float, x: Any) -> Any:
        return self.b.hold(x * constant(factor, "float32", lanes_of(x)))

    def fma(self, factor: float, x: Any, y: Any) -> Any:
        return self.b.hold(self.b.isa.multiply_add(constant(factor, "float32", lanes_of(x)), x, y))


Column = Callable[[_Arithmetic, Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class Transform:
    """F(m × m, 3 × 3): the three matrices as functions of a column."""

    outputs: int  # m
    input: Column  # Bᵀ
    weight: Column  # G
    output: Column  # Aᵀ

    @property
    def inputs(self) -> int:
        """m + 2: rows of a tile of inputs."""
        return self.outputs + 2

    @property
    def products(self) -> int:
        """Multiplications for one tile and one input channel."""
        return self.inputs**2


def twice(b: Builder, column: Column, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """`T X Tᵀ`: the columns of X, then the rows of what that gives."""
    a = _Arithmetic(b)
    columns = [column(a, [row[j] for row in rows]) for j in range(len(rows[0]))]
    return [column(a, [c[i] for c in columns]) for i in range(len(columns[0]))]


def _input_2(a: _Arithmetic, d: Sequence[Any]) -> list[Any]:
    return [a.sub(d[0], d[2]), a.add(d[1], d[2]), a.sub(d[2], d[1]), a.sub(d[1], d[3])]


def _weight_2(a: _Arithmetic, g: Sequence[Any]) -> list[Any]:
    outer, inner = a.scale(0.5, a.add(g[0], g[2])), a.scale(0.5, g[1])
    return [g[0], a.add(outer, inner), a.sub(outer, inner), g[2]]


def _output_2(a: _Arithmetic, m: Sequence[Any]) -> list[Any]:
    return [a.add(a.add(m[0], m[1]), m[2]), a.sub(a.sub(m[1], m[2]), m[3])]


# F(4 × 4) evaluates polynomials at 0, ±P, ±Q and infinity. With P = 1 / Q = 2/3 its rounding error is below
# half of that with the usual 1 and 2, its largest a sixth; the count of operations is the same.
_P, _Q = 2 / 3, 3 / 2
_PP, _QQ = _P * _P, _Q * _Q
_WEIGHT_P, _WEIGHT_Q = 1 / (2 * _PP * (_PP - _QQ)), 1 / (2 * _QQ * (_QQ - _PP))


def _input_4(a: _Arithmetic, d: Sequence[Any]) -> list[Any]:
    even_p, odd_p = a.fma(-_QQ, d[2], d[4]), a.fma(-_QQ, d[1], d[3])
    even_q, odd_q = a.fma(-_PP, d[2], d[4]), a.fma(-_PP, d[1], d[3])
    return [
        a.add(d[0], a.fma(-_PP - _QQ, d[2], d[4])),
        *(a.fma(_P, odd_p, even_p), a.fma(-_P, odd_p, even_p)),
        *(a.fma(_Q, odd_q, even_q), a.fma(-_Q, odd_q, even_q)),
        a.add(d[1], a.fma(-_PP - _QQ, d[3], d[5])),
    ]


def _weight_4(a: _Arithmetic, g: Sequence[Any]) -> list[Any]:
    even_p = a.fma(_WEIGHT_P, g[0], a.scale(_WEIGHT_P * _PP, g[2]))
    even_q = a.fma(_WEIGHT_Q, g[0], a.scale(_WEIGHT_Q * _QQ, g[2]))
    p, q = _WEIGHT_P * _P, _WEIGHT_Q * _Q
    return [
        g[0],
        *(a.fma(p, g[1], even_p), a.fma(-p, g[1], even_p)),
        *(a.fma(q, g[1], even_q), a.fma(-q, g[1], even_q)),
        g[2],
    ]


def _output_4(a: _Arithmetic, m: Sequence[Any]) -> list[Any]:
    even_p, odd_p = a.add(m[1], m[2]), a.sub(m[1], m[2])
    even_q, odd_q = a.add(m[3], m[4]), a.sub(m[3], m[4])
    return [
        a.add(m[0], a.add(even_p, even_q)),
        a.fma(_P, odd_p, a.scale(_Q, odd_q)),
        a.fma(_PP, even_p, a.scale(_QQ, even_q)),
        a.fma(_P * _PP, odd_p, a.fma(_Q * _QQ, odd_q, m[5])),
    ]


TRANSFORMS = {
    2: Transform(2, _input_2, _weight_2, _output_2),
    4: Transform(4, _input_4, _weight_4, _output_4),
}
